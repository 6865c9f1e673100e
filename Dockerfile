# The suite with its environment. The server's image is in deploy/.
#   docker build --tag aepretrain .
#   docker run --rm --shm-size=1g --user "$(id -u):$(id -g)" --volume "$PWD:/work" aepretrain grid --dataset digits
FROM python:3.11-slim
COPY requirements.txt /opt/aepretrain/
RUN pip install --no-cache-dir --require-hashes -r /opt/aepretrain/requirements.txt
COPY pyproject.toml README.md LICENSE /opt/aepretrain/
COPY aepretrain /opt/aepretrain/aepretrain
RUN pip install --no-cache-dir --no-deps --no-build-isolation /opt/aepretrain
# Results, the store and downloaded datasets go into the folder that is mounted here, whoever runs the container.
ENV HOME=/tmp
WORKDIR /work
ENTRYPOINT ["aepretrain"]
CMD ["--help"]
