// Package relay has the program that stands in a RUN whose downloads kedge serves, and the image that brings it
// there. program/main.go says what it does.
//
// The image is the same on every machine and in every build, because it is part of the cache key of each RUN.
package relay

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Dir is where a step has the image.
const Dir = "/dev/.kedge"

// These are the files of the image.
const (
	Program  = Dir + "/relay" // executes its arguments
	Socket   = Dir + "/sock"  // an empty file: the mount point of the socket behind which kedge is
	CertsPEM = Dir + "/ca.pem"
	CertsJKS = Dir + "/ca.jks" // empty files: the mount points of the certificate
	AptConf  = Dir + "/apt.conf"
	Wgetrc   = Dir + "/wgetrc"
	Resolv   = Dir + "/resolv.conf"
)

// Proxy is the address, in a step, at which the relay takes connections. Names that a step looks up have the
// same address, with the ports of http and https.
const (
	Proxy   = "http://" + address + ":3128"
	address = "127.107.101.100"
)

// NamePrefix begins the only line of a connection by which the relay says that its step looked up the address
// of a host, whose name is the rest of the line.
const NamePrefix = "KEDGE name "

//go:embed bin
var programs embed.FS

// binary returns the program for an architecture, as Go names it. It reports whether there is one.
func binary(arch string) ([]byte, bool) {
	packed, err := programs.ReadFile("bin/" + arch + ".gz")
	if err != nil {
		return nil, false
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, false
	}
	data, err := io.ReadAll(z)
	return data, err == nil
}

// An Image is a manifest with its blobs.
type Image struct {
	Manifest digest.Digest
	Blobs    map[digest.Digest][]byte
}

// New returns the image for an architecture, as Go names it. It reports whether there is one.
func New(arch string) (*Image, bool) {
	program, ok := binary(arch)
	if !ok {
		return nil, false
	}
	// The program is setuid root: a step that does not run as root may not listen on the ports of http and https
	// otherwise.
	const setuid = 0o4000
	return newImage(arch, []file{
		{Program, setuid | 0o755, program},
		{Socket, 0o644, nil},
		{CertsPEM, 0o644, nil},
		{CertsJKS, 0o644, nil},
		{AptConf, 0o644, fmt.Appendf(nil, "Acquire::https::CAInfo %q;\n", CertsPEM)},
		{Wgetrc, 0o644, fmt.Appendf(nil, "ca_certificate = %s\n", CertsPEM)},
	}), true
}

// Resolver returns the image with the step's resolv.conf. It is an image of its own because BuildKit (0.34) loses the
// error of a step two of whose mounts are from one.
func Resolver(arch string) *Image {
	return newImage(arch, []file{{Resolv, 0o644, []byte("nameserver " + address + "\n")}})
}

type file struct {
	path string
	mode int64
	data []byte
}

func newImage(arch string, files []file) *Image {
	img := &Image{Blobs: map[digest.Digest][]byte{}}
	layer := img.add(ocispec.MediaTypeImageLayer, archive(files))
	config := img.add(ocispec.MediaTypeImageConfig, encode(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: arch},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}},
	}))
	img.Manifest = img.add(ocispec.MediaTypeImageManifest, encode(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{layer},
	})).Digest
	return img
}

func (img *Image) add(mediaType string, data []byte) ocispec.Descriptor {
	dgst := digest.FromBytes(data)
	img.Blobs[dgst] = data
	return ocispec.Descriptor{MediaType: mediaType, Digest: dgst, Size: int64(len(data))}
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // of types that marshal
	}
	return data
}

// archive returns a layer.
func archive(files []file) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.path[len(Dir)+1:], Mode: f.mode, Size: int64(len(f.data)),
			ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
		}
		// A bytes.Buffer takes everything.
		_ = w.WriteHeader(h)
		_, _ = w.Write(f.data)
	}
	_ = w.Close()
	return b.Bytes()
}
