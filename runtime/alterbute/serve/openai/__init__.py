"""The OpenAI image-edits API: form fields, validation, responses, streaming and the OpenAPI document."""
