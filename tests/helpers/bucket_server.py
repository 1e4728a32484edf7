"""A server of buckets, by gcp-storage-emulator, that also says and heeds generations, as Google's does and orbax needs.
A folder named unlisted may be written and read, but not listed, as by rights without storage.objects.list; what is in
one named unread may be listed, but not read.

python tests/helpers/bucket_server.py PORT BUCKET
"""

import sys
from http import HTTPStatus

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

HEADER = "X-Goog-Generation"


def generation(storage, bucket, name):
    """'0' of an object that is not there."""
    try:
        return storage.get_file_obj(bucket, name)["generation"]
    except NotFound:
        return "0"


def with_generations(download, insert):
    def downloaded(request, response, storage, *args, **kwargs):
        here = generation(storage, request.params["bucket_name"], request.params["object_id"])
        if here != "0" and request.query.get("ifGenerationNotMatch", [""])[0] == here:
            response.status = HTTPStatus.NOT_MODIFIED
            return
        response[HEADER] = here
        download(request, response, storage, *args, **kwargs)

    def inserted(request, response, storage, *args, **kwargs):
        wanted = request.query.get("ifGenerationMatch")
        name = request.query["name"][0] if "name" in request.query else request.data["meta"]["name"]
        if wanted and generation(storage, request.params["bucket_name"], name) != wanted[0]:
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
        insert(request, response, storage, *args, **kwargs)

    return downloaded, inserted


def with_rights(listing, download):
    def listed(request, response, *args, **kwargs):
        if "/unlisted/" in request.query.get("prefix", [""])[0]:
            response.status = HTTPStatus.FORBIDDEN
        else:
            listing(request, response, *args, **kwargs)

    def downloaded(request, response, *args, **kwargs):
        if "/unread/" in request.params["object_id"]:
            response.status = HTTPStatus.FORBIDDEN
        else:
            download(request, response, *args, **kwargs)

    return listed, downloaded


if __name__ == "__main__":
    objects.download, objects.insert = with_generations(
        objects.download, objects.insert
    )  # before the server takes them
    objects.ls, objects.download = with_rights(objects.ls, objects.download)
    from gcp_storage_emulator.server import create_server

    create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket=sys.argv[2]).run()
