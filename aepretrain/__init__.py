"""Does pretraining an autoencoder help classification? The whole experiment, tracked in MLflow."""

__version__ = "0.1.0"
