"""What a user of Podwire imports: the messages (`podwire.v1`), the client, the manifest codec, and the errors."""

__version__ = "0.1.0"
