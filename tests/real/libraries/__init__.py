"""A host whose pages are those of docs/clients.md for Uppy, FilePond and Dropzone."""
