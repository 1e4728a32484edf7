"""The command that prepares a data set, and the records that it wrote."""

import tensorflow_datasets as tfds

from repre_jax.tools import prepare


def run(*arguments):
    return prepare.main([str(argument) for argument in arguments])


def records(directory, split):
    builder = tfds.builder_from_directory(directory)
    source = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    return {record["file_name"].decode(): record for record in source}, builder
