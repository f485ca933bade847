"""What a head costs against the number of classes: measured, foretold, reported."""
