"""Classification as a service: descriptor sets on disk, their texts embedded in the background, images in batches."""
