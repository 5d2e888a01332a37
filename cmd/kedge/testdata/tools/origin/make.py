"""Writes the packages whose format needs no tool of its own."""
import hashlib, io, json, os, sys, tarfile, zipfile

V = sys.argv[1]


def put(path, data):
    data = data.encode() if isinstance(data, str) else data
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    return hashlib.sha256(data).hexdigest()


def zipped(files):
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w") as z:
        for name, text in files.items():
            z.writestr(zipfile.ZipInfo(name), text)
    return b.getvalue()


def tarred(files):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w:gz") as t:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            t.addfile(info, io.BytesIO(text.encode()))
    return b.getvalue()


def wheel(package, version, text):
    info = "%s-%s.dist-info/" % (package, version)
    name = "%s-%s-py3-none-any.whl" % (package, version)
    digest = put("pypi.example.com/packages/" + name, zipped({
        package + ".py": text,
        info + "METADATA": "Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (package, version),
        info + "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        info + "RECORD": "%s.py,,\n%sMETADATA,,\n%sWHEEL,,\n%sRECORD,,\n" % (package, info, info, info),
    }))
    put("pypi.example.com/simple/" + package + "/index.html", '<a href="../../packages/%s#sha256=%s">%s</a>' % (name, digest, name))


wheel("kedgedep", "1.0.0", "VERSION = " + V + "\n")
wheel("six", "1.17.0", '__version__ = "1.17.0"\n')  # of examples/hermetic-pip

name = "kedgedep-1.0.0"

crate = put("crates.example.com/crates/kedgedep/1.0.0/download", tarred({
    name + "/Cargo.toml": '[package]\nname = "kedgedep"\nversion = "1.0.0"\nedition = "2021"\n',
    name + "/src/lib.rs": "pub const VERSION: u32 = " + V + ";\n",
}))
put("crates.example.com/index/config.json", '{"dl":"https://crates.example.com/crates"}')
put("crates.example.com/index/ke/dg/kedgedep", json.dumps({"name": "kedgedep", "vers": "1.0.0", "deps": [], "cksum": crate, "features": {}, "yanked": False}) + "\n")

put("composer.example.com/dist/dep.zip", zipped({"dep/composer.json": '{"name":"kedge/dep"}', "dep/version": V}))
put("composer.example.com/packages.json", json.dumps({"metadata-url": "/p2/%package%.json", "available-packages": ["kedge/dep"]}))
put("composer.example.com/p2/kedge/dep.json", json.dumps({"packages": {"kedge/dep": [{
    "name": "kedge/dep", "version": "1.0.0", "dist": {"type": "zip", "url": "https://composer.example.com/dist/dep.zip"}}]}}))

pom = '<project><modelVersion>4.0.0</modelVersion><groupId>test.kedge</groupId><artifactId>parent</artifactId><version>1.0</version><packaging>pom</packaging><description>%s</description></project>' % V
path = "maven.example.com/maven2/test/kedge/parent/1.0/parent-1.0.pom"
put(path, pom)
put(path + ".sha1", hashlib.sha1(pom.encode()).hexdigest())

put("files.example.com/plain", "the content " + V)
put("files.example.com/large", ("line of version " + V + "\n") * 200_000)
