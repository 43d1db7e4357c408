"""Data: pictures and COCO annotations in, records, samples, augmentation and label maps out."""
