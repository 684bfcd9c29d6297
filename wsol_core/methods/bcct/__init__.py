"""BC-CT: background images, gradient masks, pixel-supervised CAM."""
