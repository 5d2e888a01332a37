# Writes a zip archive, and what apk keeps of the scripts of packages, with the time of now in them.
import io
import os
import tarfile
import time
import zipfile

os.makedirs("/lib/apk/db", exist_ok=True)
with tarfile.open("/lib/apk/db/scripts.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
    for name, text in [("a-1.Q1abc=.post-install", b"#!/bin/sh\necho a\n"), ("b-2.Q1def=.trigger", b"#!/bin/sh\n")]:
        entry = tarfile.TarInfo(name)
        entry.mode, entry.mtime, entry.size = 0o755, int(time.time()), len(text)
        tar.addfile(entry, io.BytesIO(text))

with zipfile.ZipFile("/opt/data.zip", "w") as z:
    z.writestr(zipfile.ZipInfo("zipped.py", time.gmtime()[:6]), "value = 1\n")
