// Shows the figures that can be explored beside their static pictures, which stay for paper and screen readers.
for (const place of document.querySelectorAll(".explore")) {
  const figure = place.closest("figure");
  figure.classList.add("explored"); // a figure finds its width only where it is shown
  const show = async (spec) => {
    const view = document.createElement("div");
    view.setAttribute("aria-hidden", "true"); // the picture's alternative text has the numbers
    place.append(view);
    await vegaEmbed(view, spec, { actions: false, renderer: "svg", loader: { target: "_blank" } });
    // what is hidden from screen readers is not reached by the keyboard either
    for (const one of view.querySelectorAll("a, [tabindex]")) one.setAttribute("tabindex", "-1");
  };
  const all = async () => Promise.all(JSON.parse(place.querySelector("script").textContent).map(show));
  all().catch(() => figure.classList.remove("explored")); // the static picture stays
}
