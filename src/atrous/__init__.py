"""Semantic segmentation with atrous convolution."""
