package parity

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// An entry is a file of a folder, an archive or an image.
type entry struct {
	kind     string // "file", "folder", "link", "device", "pipe"
	mode     fs.FileMode
	uid, gid int
	link     string
	hash     string
	size     int64
	xattrs   string
	modified time.Time
}

func compareEntries(add func(aspect string, theirs, ours any), x, y entry) {
	add("kind", x.kind, y.kind)
	add("mode", x.mode, y.mode)
	add("owner", fmt.Sprint(x.uid, ":", x.gid), fmt.Sprint(y.uid, ":", y.gid))
	add("target", x.link, y.link)
	add("content", x.hash, y.hash)
	add("xattrs", x.xattrs, y.xattrs)
}

// list returns the files below a folder, by path.
func list(dir string) (map[string]entry, error) {
	found := map[string]entry{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		if d.Name() == ".git" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		e := entry{
			mode: info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky),
			uid:  int(stat.Uid), gid: int(stat.Gid), modified: info.ModTime(),
		}
		switch {
		case info.IsDir():
			e.kind = "folder"
		case info.Mode()&fs.ModeSymlink != 0:
			e.kind, e.mode = "link", 0
			e.link, err = os.Readlink(path)
		case info.Mode().IsRegular():
			e.kind, e.size = "file", info.Size()
			var content []byte
			content, err = os.ReadFile(path)
			e.hash = sum(content)
		default:
			e.kind = "special"
		}
		found[name] = e
		return err
	})
	return found, err
}

func sum(content []byte) string {
	hash := sha256.Sum256(content)
	return hex.EncodeToString(hash[:8])
}

// An image is one platform of an outcome.
type image struct {
	digest       string
	config       *v1.ConfigFile
	tree         map[string]entry
	media        []types.MediaType
	annotations  map[string]string
	attestations []string
}

func isLayout(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "oci-layout"))
	return err == nil
}

// archive reads a tar file: an image or a plain tree.
func (o *outcome) archive(name string, r io.Reader) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "parity-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tree := map[string]entry{}
	if err := apply(tree, bytes.NewReader(content), func(name string, content []byte) error {
		if name == "index.json" || name == "oci-layout" || name == "manifest.json" || strings.HasPrefix(name, "blobs/") {
			file := filepath.Join(dir, name)
			return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o644))
		}
		return nil
	}); err != nil {
		return err
	}
	if isLayout(dir) {
		if _, err := os.Stat(filepath.Join(dir, "manifest.json")); err == nil {
			o.names[name+" manifest.json"] = []string{"is there"}
		}
		return o.layout(name, dir)
	}
	for path, e := range tree {
		if e.kind == "file" {
			e.size = 0
		}
		o.files[name+"/"+path] = e
	}
	return nil
}

// layout reads an OCI layout.
func (o *outcome) layout(name, dir string) error {
	p, err := layout.FromPath(dir)
	if err != nil {
		return err
	}
	index, err := p.ImageIndex()
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, desc := range manifest.Manifests {
		if ref := desc.Annotations["io.containerd.image.name"]; argsTag.MatchString(ref) {
			o.argsTags = append(o.argsTags, ref)
		} else if ref != "" {
			o.names[name] = append(o.names[name], o.plain(ref))
		}
	}
	slices.Sort(o.names[name])
	return o.index(name, index)
}

// index reads the images of an index, and of the indexes in it.
func (o *outcome) index(name string, index v1.ImageIndex) error {
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	attestations := map[string][]string{}
	for _, desc := range manifest.Manifests {
		if desc.MediaType.IsIndex() {
			inner, err := index.ImageIndex(desc.Digest)
			if err == nil {
				err = o.index(name, inner)
			}
			if err != nil {
				return err
			}
			continue
		}
		img, err := index.Image(desc.Digest)
		if err != nil {
			return err
		}
		if subject := desc.Annotations["vnd.docker.reference.digest"]; subject != "" {
			kinds, err := predicates(img)
			if err != nil {
				return err
			}
			attestations[subject] = append(attestations[subject], kinds...)
			continue
		}
		if err := o.image(name, img); err != nil {
			return err
		}
	}
	for _, img := range o.images {
		if kinds := attestations[img.digest]; kinds != nil {
			slices.Sort(kinds)
			img.attestations = kinds
		}
	}
	return nil
}

// predicates returns the types of the predicates in an attestation manifest.
func predicates(img v1.Image) ([]string, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	var kinds []string
	for _, layer := range manifest.Layers {
		kinds = append(kinds, path.Base(path.Dir(layer.Annotations["in-toto.io/predicate-type"]))+"/"+path.Base(layer.Annotations["in-toto.io/predicate-type"]))
	}
	return kinds, nil
}

// image reads the image of one platform.
func (o *outcome) image(name string, img v1.Image) error {
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	i := &image{digest: digest.String(), annotations: manifest.Annotations, tree: map[string]entry{}}
	i.media = append(i.media, manifest.MediaType, manifest.Config.MediaType)
	if i.config, err = img.ConfigFile(); err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for n, layer := range layers {
		// Whether it is compressed depends on earlier exports of the daemon.
		media, _, _ := strings.Cut(string(manifest.Layers[n].MediaType), "+")
		i.media = append(i.media, types.MediaType(media))
		r, err := layer.Uncompressed()
		if err != nil {
			return err
		}
		err = apply(i.tree, r, nil)
		if err := errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("layer %d: %w", n+1, err)
		}
	}
	slices.Sort(i.media)
	i.media = slices.Compact(i.media)
	if i.config.Architecture == "" { // a cache
		o.files[name+" (cache)"] = entry{kind: "cache"}
		return nil
	}
	key := name + " " + i.config.Platform().String()
	if o.images[key] != nil && o.images[key].digest != i.digest {
		return fmt.Errorf("%s: two images for %s", name, i.config.Platform())
	}
	o.images[key] = i
	return nil
}

// apply lays the entries of a tar over a tree. It calls each, unless that is nil, with the name and the
// content of every file.
func apply(tree map[string]entry, r io.Reader, each func(name string, content []byte) error) error {
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if name == "" {
			continue
		}
		dir, base := path.Split(name)
		if base == ".wh..wh..opq" {
			remove(tree, strings.TrimSuffix(dir, "/"), false)
			continue
		}
		if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
			remove(tree, dir+hidden, true)
			continue
		}
		e := entry{
			mode: h.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky),
			uid:  h.Uid, gid: h.Gid, modified: h.ModTime,
		}
		for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			if strings.HasPrefix(key, "SCHILY.xattr.") {
				e.xattrs += fmt.Sprintf("%s=%q ", key, h.PAXRecords[key])
			}
		}
		switch h.Typeflag {
		case tar.TypeDir:
			e.kind = "folder"
		case tar.TypeSymlink:
			e.kind, e.mode, e.link = "link", 0, h.Linkname
		case tar.TypeLink:
			target, ok := tree[strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")]
			if !ok {
				return fmt.Errorf("%q is a link to %q, which is not there", h.Name, h.Linkname)
			}
			e = target
		case tar.TypeReg:
			content, err := io.ReadAll(tr)
			if err != nil {
				return err
			}
			e.kind, e.size, e.hash = "file", h.Size, sum(content)
			if each != nil {
				if err := each(name, content); err != nil {
					return err
				}
			}
		default:
			e.kind, e.link = "special "+string(h.Typeflag), fmt.Sprint(h.Devmajor, ":", h.Devminor)
		}
		if old, ok := tree[name]; ok && old.kind == "folder" && e.kind != "folder" {
			remove(tree, name, true)
		}
		tree[name] = e
	}
}

// remove removes everything below a path, and with all the path itself.
func remove(tree map[string]entry, name string, all bool) {
	for other := range tree {
		if strings.HasPrefix(other, name+"/") || all && other == name || name == "" {
			delete(tree, other)
		}
	}
}

// compareImages compares the images for one platform in two outcomes.
func compareImages(add func(aspect string, theirs, ours any), one, two *outcome, key string) {
	a, b := one.images[key], two.images[key]
	add("digest", a.digest, b.digest)
	add("attestations", a.attestations, b.attestations)
	add("annotations", a.annotations, b.annotations)
	add("media types", a.media, b.media)
	add("created", a.config.Created.Time, b.config.Created.Time)
	add("author", a.config.Author, b.config.Author)
	for _, key := range union(fields(a.config), fields(b.config)) {
		add("config "+key, orNone(fields(a.config)[key]), orNone(fields(b.config)[key]))
	}
	for i := range max(len(a.config.History), len(b.config.History)) {
		add("history", one.step(a.config, i), two.step(b.config, i))
	}
	for _, name := range union(a.tree, b.tree) {
		x, inA := a.tree[name]
		y, inB := b.tree[name]
		switch {
		case !inA:
			add("tree", "no /"+name, "/"+name)
		case !inB:
			add("tree", "/"+name, "no /"+name)
		default:
			compareEntries(func(aspect string, x, y any) { add("tree /"+name+" "+aspect, x, y) }, x, y)
		}
	}
	add("times", times(a), times(b))
}

// times returns a description of the times of an image's files.
func times(i *image) string {
	hash := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(i.tree)) {
		fmt.Fprintln(hash, name, i.tree[name].modified.Unix())
	}
	return hex.EncodeToString(hash.Sum(nil)[:6])
}

// fields returns the fields of an image's configuration that are set, labels one by one.
func fields(file *v1.ConfigFile) map[string]string {
	config := file.Config
	labels := config.Labels
	config.Labels = nil
	text, err := json.Marshal(config)
	if err != nil {
		panic(err) // cannot happen, since the value came from JSON
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		panic(err)
	}
	set := map[string]string{}
	for key, value := range raw {
		if s := string(value); s != "null" && s != `""` && s != "false" && s != "{}" && s != "[]" {
			set[key] = s
		}
	}
	for key, value := range labels {
		set["Labels "+key] = fmt.Sprintf("%q", value)
	}
	return set
}

func (o *outcome) step(config *v1.ConfigFile, i int) string {
	if i >= len(config.History) {
		return "none"
	}
	h := config.History[i]
	return fmt.Sprintf("%q comment %q author %q empty %v", o.plain(h.CreatedBy), h.Comment, h.Author, h.EmptyLayer)
}
