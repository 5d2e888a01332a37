package source

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/kedge-build/kedge/internal/decompress"
	"github.com/kedge-build/kedge/internal/wholefile"
)

// Limits of an archive. An image has a few hundred members at most.
const (
	maxMembers = 1 << 18
	maxLinks   = 8
)

// archive opens an image in a tar: an OCI layout, or the output of docker save.
func (o Options) archive(ctx context.Context, name string, img *Image) error {
	file, which := cutName(name, func(p string) bool {
		info, err := os.Stat(p)
		return err == nil && !info.IsDir()
	})
	f, stop, err := wholefile.OpenPipe(ctx, file, os.O_RDONLY)
	if err != nil {
		return err
	}
	img.close = append(img.close, func() error { stop(); return f.Close() })
	plain, err := o.plain(f, img)
	if err != nil {
		return err
	}
	return o.fromTar(plain, which, img)
}

// plain returns the file, or a decompressed copy of it that allows random access.
func (o Options) plain(f *os.File, img *Image) (*os.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	content, err := decompress.Open(f, decompress.Gzip|decompress.Zstd)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	if content.Format == 0 && info.Mode().IsRegular() { // not a pipe
		return f, nil
	}
	return o.spool(content, img)
}

// members holds the places of the files in a tar, by path.
type members struct {
	file  *os.File
	at    map[string]member
	links map[string]string
}

type member struct{ offset, size int64 }

// index finds the members of a tar without reading their content.
func index(f *os.File) (*members, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	m := &members{f, map[string]member{}, map[string]string{}}
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the archive: %w", err)
		}
		if len(m.at)+len(m.links) == maxMembers {
			return nil, fmt.Errorf("the archive has more than %d members", maxMembers)
		}
		name := path.Clean("/" + h.Name)[1:]
		switch h.Typeflag {
		case tar.TypeReg:
			// The tar reader seeks over content, so it has read no further than the header.
			offset, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			m.at[name] = member{offset, h.Size}
		case tar.TypeSymlink: // docker save links layers that occur twice
			m.links[name] = path.Join("/", path.Dir(name), h.Linkname)[1:]
		case tar.TypeLink:
			m.links[name] = path.Clean("/" + h.Linkname)[1:]
		}
	}
}

func (m *members) open(name string) (io.ReadCloser, int64, error) {
	name = path.Clean("/" + name)[1:]
	for range maxLinks {
		if to, ok := m.links[name]; ok {
			name = to
		}
	}
	at, ok := m.at[name]
	if !ok {
		return nil, 0, fmt.Errorf("%q is not in the archive", name)
	}
	return &section{io.NewSectionReader(m.file, at.offset, at.size), io.NopCloser(nil)}, at.size, nil
}

func (m *members) has(name string) bool {
	_, ok := m.at[name]
	return ok
}

func (m *members) read(name string) ([]byte, error) {
	r, _, err := m.open(name)
	if err != nil {
		return nil, err
	}
	data, err := readAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading %q of the archive: %w", name, err)
	}
	return data, nil
}

// fromTar opens the image in an archive. Newer Docker Engines write archives that are both; those are read
// as OCI layouts.
func (o Options) fromTar(f *os.File, which string, img *Image) error {
	m, err := index(f)
	if err != nil {
		return err
	}
	switch {
	case m.has("oci-layout") && m.has("index.json"):
		b := func(h v1.Hash) (io.ReadCloser, int64, error) { return m.open(path.Join("blobs", h.Algorithm, h.Hex)) }
		data, err := m.read("index.json")
		if err != nil {
			return err
		}
		img.Image, err = o.fromIndex(b, data, which)
		return err
	case m.has("manifest.json"):
		if img.Image, err = m.docker(which); err != nil {
			return err
		}
		return o.check(img.Image)
	}
	return errors.New("the archive is neither an OCI layout nor what docker save writes")
}

// docker returns the image in a manifest.json
// (https://github.com/moby/docker-image-spec/blob/main/v1.2.md).
func (m *members) docker(which string) (v1.Image, error) {
	data, err := m.read("manifest.json")
	if err != nil {
		return nil, err
	}
	var images []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(data, &images); err != nil {
		return nil, fmt.Errorf("reading manifest.json: %w", err)
	}
	var names []string
	chosen := -1
	for i, d := range images {
		names = append(names, d.RepoTags...)
		if which == "" && len(images) == 1 || which != "" && slices.ContainsFunc(d.RepoTags, func(tag string) bool { return sameName(which, tag) }) {
			chosen = i
		}
	}
	if chosen < 0 {
		return nil, fmt.Errorf("there is no image %q: there are %q", which, names)
	}
	config, err := m.read(images[chosen].Config)
	if err != nil {
		return nil, err
	}
	file, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	layers := images[chosen].Layers
	if len(layers) != len(file.RootFS.DiffIDs) {
		return nil, fmt.Errorf("manifest.json names %d layers, the config %d", len(layers), len(file.RootFS.DiffIDs))
	}
	// The archive has no manifest, so make one.
	at := map[v1.Hash]string{}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.DockerManifestSchema2}
	manifest.Config.MediaType = types.DockerConfigJSON
	if manifest.Config.Digest, manifest.Config.Size, err = v1.SHA256(bytes.NewReader(config)); err != nil {
		return nil, err
	}
	for i, name := range layers {
		d, err := m.layer(name, file.RootFS.DiffIDs[i])
		if err != nil {
			return nil, err
		}
		at[d.Digest] = name
		manifest.Layers = append(manifest.Layers, d)
	}
	raw, err := json.Marshal(manifest)
	if err != nil {
		return nil, err
	}
	digest, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	at[manifest.Config.Digest] = images[chosen].Config
	b := func(h v1.Hash) (io.ReadCloser, int64, error) { return m.open(at[h]) }
	return fromManifest(b, v1.Descriptor{MediaType: manifest.MediaType, Digest: digest}, raw)
}

// layer describes a layer of a Docker archive. Its digest is in its path, or else it is the diffID if the
// layer is not compressed, or else it is computed.
func (m *members) layer(name string, diffID v1.Hash) (v1.Descriptor, error) {
	r, size, err := m.open(name)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer r.Close()
	d := v1.Descriptor{MediaType: types.DockerUncompressedLayer, Size: size, Digest: diffID}
	if digest, ok := strings.CutPrefix(name, "blobs/sha256/"); ok {
		d.MediaType = types.DockerLayer
		d.Digest, err = v1.NewHash("sha256:" + digest)
		return d, err
	}
	content, err := decompress.Open(r, decompress.Gzip|decompress.Zstd)
	if err != nil {
		return d, err
	}
	defer content.Close()
	if content.Format != 0 {
		d.MediaType = types.DockerLayer
		again, _, err := m.open(name)
		if err != nil {
			return d, err
		}
		d.Digest, _, err = v1.SHA256(again)
		return d, err
	}
	return d, nil
}
