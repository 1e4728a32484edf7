"""From stored records to augmented views: sources, host crops, device augmentation, the loader."""
