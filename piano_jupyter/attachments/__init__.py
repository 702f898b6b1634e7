"""Attachments: figures, images, tables and text files that belong to messages and tool calls."""
