"""From a trained model to packed layers."""
