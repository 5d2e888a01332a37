package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/kedge-build/kedge/rules"
	"github.com/opencontainers/go-digest"
)

// A Record is a JSON file in layers that describes a layer. There are three kinds, by file name:
//
//	raw-ALG-HEX-EPOCH-UNDER.json  the canonical form of a raw layer for an epoch, over other layers
//	diff-ALG-HEX.json             the blob of a canonical layer, by its diffID
//	source-ALG-HEX.json           the repositories that have a base layer
//
// A record only saves work. The store ignores a record that it cannot read, that does not match its name,
// that has another version, or whose blob is missing.
type Record struct {
	Version int `json:"version"`         // recordVersion
	Rules   int `json:"rules,omitempty"` // rules.Version, for raw and diff

	// The raw layer that the canonical layer was made from, for raw.
	Raw       digest.Digest `json:"raw,omitempty"`
	RawDiffID digest.Digest `json:"rawDiffID,omitempty"`
	RawSize   int64         `json:"rawSize,omitempty"`
	Epoch     int64         `json:"epoch,omitempty"` // seconds since 1970
	Under     digest.Digest `json:"under,omitempty"` // everything else that the canonical form depends on

	// The paths that rules dropped or changed, by rule id, for raw and diff.
	Normalised map[string][]string `json:"normalised,omitempty"`
	// The days since 1970 on which RUNs wrote the layer's accounts, for raw.
	Days []int64 `json:"days,omitempty"`
	// The digests of archives that rules would change, and whether they left them alone because one stands in
	// the image, for raw.
	Archives map[string]bool `json:"archives,omitempty"`

	// The canonical layer, for raw and diff.
	DiffID digest.Digest `json:"diffID,omitempty"`

	// The blob that the record describes, for all kinds.
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"` // in bytes

	// Repositories with their host, sorted, for source.
	Repos []string `json:"repos,omitempty"`
}

const recordVersion = 2

// maxRepos bounds the repositories of a layer, although one is enough.
const maxRepos = 8

func (r Record) name() string {
	switch {
	case r.Raw != "":
		return rawName(r.Raw, r.Epoch, r.Under)
	case r.DiffID != "":
		return diffName(r.DiffID)
	default:
		return sourceName(r.Digest)
	}
}

func rawName(raw digest.Digest, epoch int64, under digest.Digest) string {
	return fmt.Sprintf("%s%s.json", rawPrefix(raw, epoch), under.Encoded())
}

// rawPrefix starts the names of all records of a raw layer and an epoch.
func rawPrefix(raw digest.Digest, epoch int64) string {
	return fmt.Sprintf("raw-%s-%s-%d-", raw.Algorithm(), raw.Encoded(), epoch)
}

func diffName(diffID digest.Digest) string {
	return fmt.Sprintf("diff-%s-%s.json", diffID.Algorithm(), diffID.Encoded())
}

func sourceName(dgst digest.Digest) string {
	return fmt.Sprintf("source-%s-%s.json", dgst.Algorithm(), dgst.Encoded())
}

// parseRecord reads a record strictly. The name is that of its file.
func parseRecord(name string, data []byte) (Record, error) {
	var r Record
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Record{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Record{}, errors.New("more than one JSON document")
	}
	for _, d := range []digest.Digest{r.Raw, r.RawDiffID, r.DiffID, r.Under} {
		if err := d.Validate(); d != "" && err != nil {
			return Record{}, err
		}
	}
	if err := r.Digest.Validate(); err != nil {
		return Record{}, err
	}
	want := rules.Version
	if r.Raw == "" && r.DiffID == "" {
		want = 0
	}
	if r.Version != recordVersion || r.Rules != want {
		return Record{}, fmt.Errorf("record version %d, rules version %d", r.Version, r.Rules)
	}
	if r.Raw != "" && (r.DiffID == "" || r.RawDiffID == "" || r.Under == "" || r.RawSize <= 0) {
		return Record{}, errors.New("incomplete record")
	}
	if r.name() != name {
		return Record{}, fmt.Errorf("record of %q", r.name())
	}
	return r, nil
}

// readRecord returns the record in a file of layers, if it is valid.
func (s *Store) readRecord(name string) (Record, bool) {
	data, err := os.ReadFile(s.path(layersDir, name))
	if err != nil {
		return Record{}, false
	}
	r, err := parseRecord(name, data)
	if err != nil {
		return Record{}, false
	}
	path, err := s.blobPath(r.Digest)
	if err != nil {
		return Record{}, false
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Size() != r.Size {
		return Record{}, false
	}
	return r, true
}

// DiffRecord returns the record of a canonical layer, if the store still has its blob.
func (s *Store) DiffRecord(diffID digest.Digest) (Record, bool) {
	return s.readRecord(diffName(diffID))
}

// RawRecord returns the record of the canonical form of a raw layer, if the store still has its blob.
func (s *Store) RawRecord(raw digest.Digest, epoch time.Time, under digest.Digest) (Record, bool) {
	if raw.Validate() != nil {
		return Record{}, false
	}
	return s.readRecord(rawName(raw, epoch.Unix(), under))
}

// RawRecords returns a function that returns one of the records of a raw layer, over any layers. It knows the
// records that there are now.
func (s *Store) RawRecords(epoch time.Time) func(raw digest.Digest) (Record, bool) {
	files, _ := os.ReadDir(s.path(layersDir)) // sorted
	return func(raw digest.Digest) (Record, bool) {
		if raw.Validate() != nil {
			return Record{}, false
		}
		prefix := rawPrefix(raw, epoch.Unix())
		first, _ := slices.BinarySearchFunc(files, prefix, func(f fs.DirEntry, prefix string) int { return strings.Compare(f.Name(), prefix) })
		for _, f := range files[first:] {
			if !strings.HasPrefix(f.Name(), prefix) {
				break
			}
			if r, ok := s.readRecord(f.Name()); ok {
				return r, true
			}
		}
		return Record{}, false
	}
}

// sources returns the repositories that have a blob, with their hosts.
func (s *Store) sources(dgst digest.Digest) []string {
	r, _ := s.readRecord(sourceName(dgst))
	return r.Repos
}

// SourceLabels returns the labels by which containerd knows the repositories of a blob. There is one for
// each host, without its port. Its value is the names, joined by commas.
func SourceLabels(repos []string) map[string]string {
	var m map[string]string
	for _, repo := range repos {
		host, name, ok := strings.Cut(repo, "/")
		if !ok {
			continue
		}
		host, _, _ = strings.Cut(host, ":")
		key := labels.LabelDistributionSource + "." + host
		if have := m[key]; have != "" {
			name = have + "," + name
		}
		if m == nil {
			m = map[string]string{}
		}
		m[key] = name
	}
	return m
}

// pruneListings removes the listings of layers.
func (s *Store) pruneListings() error {
	files, err := os.ReadDir(s.path(layersDir))
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".gob") {
			err = errors.Join(err, os.Remove(s.path(layersDir, f.Name())))
		}
	}
	return err
}

// pruneRecords removes the records that are not valid, or all.
func (s *Store) pruneRecords(all bool) error {
	files, err := os.ReadDir(s.path(layersDir))
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, ok := s.readRecord(f.Name()); ok && !all {
			continue
		}
		if err := os.Remove(s.path(layersDir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
