"""The command line: each verb parses, calls the lab, prints."""
