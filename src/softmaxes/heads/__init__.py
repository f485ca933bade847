"""The heads, one softmax a file."""
