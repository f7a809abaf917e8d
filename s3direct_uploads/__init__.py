"""Uploads that go from the client straight to S3: recorded, presigned and confirmed by Django."""
