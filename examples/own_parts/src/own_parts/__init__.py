"""A head, a backbone, a data set and a study that softmaxes does not know."""
