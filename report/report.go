// Package report holds the answer of a verb as one value, and writes it as text, JSON, Markdown or HTML.
//
// The verbs fill a [Report] from what their packages return; the renderers read nothing else:
//
//	r := report.NewDiff("diff", result, nil)
//	err := report.Write(os.Stdout, report.Markdown, r)
//
// The JSON is the value itself, described by docs/report.schema.json. A key may be added at any time. A key
// that goes away or changes its meaning raises [Version].
//
// Every string may come from a hostile image: each renderer escapes what its reader would take for markup or a
// command.
package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/kedge-build/kedge/lint"
)

// Version is the version of the value.
const Version = 1

// Report is the answer of one verb. Exactly one of Image, Diff, Lock, Lint, Drift, DriftLog and Promotion is set; in
// JSON the keys of the first four are the report's own.
type Report struct {
	Version int    `json:"version"`
	Verb    string `json:"verb"`
	// Created is when the report was made. Only a file has it: an answer on stdout is the same each time.
	Created    time.Time `json:"created,omitzero"`
	Dockerfile string    `json:"dockerfile,omitempty"`
	Lockfile   string    `json:"lockfile,omitempty"` // empty if there is none
	Args       string    `json:"args,omitempty"`     // the hash of the build args
	Epoch      time.Time `json:"epoch,omitzero"`
	*Image
	*Diff
	*Lock
	*Lint
	Drift     *Drift     `json:"drift,omitempty"`
	DriftLog  *DriftLog  `json:"driftLog,omitempty"`
	Promotion *Promotion `json:"promotion,omitempty"`
}

// compared returns r with the comparison of a verdict on drift as its own.
func (r *Report) compared() *Report {
	if r.Drift == nil {
		return r
	}
	shown := *r
	shown.Diff = r.Drift.Diff
	return &shown
}

// Image is the image that build or verify made, or the single one that explain was given.
type Image struct {
	Digest string   `json:"digest"`          // of the manifest, or of the index of several platforms
	Index  string   `json:"index,omitempty"` // of the index that also holds attestations
	Names  []string `json:"names"`
	Pins   []Pin    `json:"pins"`
	// Normalised are the paths that rules dropped or changed, by platform and rule.
	Normalised map[string]map[string][]string `json:"normalised"`
	Rules      map[string]string              `json:"rules"` // what each of these rules does, and why
	// Touched are the layers that rules changed. Only explain knows them.
	Touched []TouchedLayer `json:"touched,omitempty"`
	Verdict *Verdict       `json:"verdict,omitempty"` // nil if there was no second build
}

// TouchedLayer is a layer that rules changed.
type TouchedLayer struct {
	Platform  string   `json:"platform"`
	Index     int      `json:"index"`                // 0 is the lowest
	CreatedBy string   `json:"created_by,omitempty"` // the instruction, as the image's history has it
	Paths     []string `json:"paths"`                // that rules dropped or changed, sorted
}

// Pin is a source that the lockfile pins.
type Pin struct {
	Kind   string `json:"kind"` // image, local, url or git
	Ref    string `json:"ref"`
	Digest string `json:"digest"` // or a commit
}

// Verdict says whether two builds gave the same image.
type Verdict struct {
	Reproducible bool       `json:"reproducible"`
	Varied       []string   `json:"varied,omitempty"` // how the second build differed on purpose
	Platforms    []Platform `json:"platforms"`
	Patch        string     `json:"patch,omitempty"`      // a unified diff of the Dockerfile that removes causes
	NotCovered   []Gap      `json:"notCovered,omitempty"` // what two builds that agree do not show
	Builders     []Builder  `json:"builders,omitempty"`   // the first build's and the second's, if there were two
}

// Builder is what one of two builds ran on.
type Builder struct {
	Name     string `json:"name"`               // or address
	BuildKit string `json:"buildkit,omitempty"` // its version; empty if it is unknown, like the others
	Platform string `json:"platform,omitempty"`
	Kernel   string `json:"kernel,omitempty"`
}

func (b Builder) words() string {
	unknown := func(s string) string { return cmp.Or(plain(s), "unknown") }
	return fmt.Sprintf("builder %s: BuildKit %s, %s, kernel %s", plain(b.Name), unknown(b.BuildKit), unknown(b.Platform), unknown(b.Kernel))
}

// Gap is one thing that a verdict does not cover.
type Gap struct {
	Kind string `json:"kind"`           // download, cache-mount, secret, git-dir or common
	Line int    `json:"line,omitempty"` // of the Dockerfile; 0 if unknown
	Text string `json:"text"`
}

// words names the instruction that the gap is about, and says what is not covered.
func (g Gap) words(dockerfile string) string {
	switch {
	case g.Line > 0:
		return fmt.Sprintf("%s:%d: %s", plain(dockerfile), g.Line, plain(g.Text))
	}
	return plain(g.Text)
}

// Platform compares the two images of one platform. If its layers are the same and it is not, the image
// configs differ.
type Platform struct {
	Platform string  `json:"platform"`
	First    string  `json:"first"` // the digest of the manifest
	Second   string  `json:"second"`
	Same     bool    `json:"same"`
	Layers   []Layer `json:"layers,omitempty"` // those that differ, lowest first
	Traces   []Trace `json:"traces,omitempty"`
}

// Trace is a file that both builds agree on, and that another day or another machine would change.
type Trace struct {
	Layer       int    `json:"layer"`
	Line        int    `json:"line,omitempty"` // of the Dockerfile; 0 if unknown
	Instruction string `json:"instruction,omitempty"`
	Path        string `json:"path"`           // absolute
	Kind        string `json:"kind"`           // timestamp or machine
	What        string `json:"what"`           // the form of the date, or the name of a value of the machine
	Text        string `json:"text,omitempty"` // the date
	Certain     bool   `json:"certain"`        // the verdict is no for it; otherwise it is a warning
	Why         string `json:"why,omitempty"`  // why a date is not certain
}

// Layer is a layer that differs.
type Layer struct {
	Index int `json:"index"` // from 0, counting the base image's layers
	// First and Second are digests: of the blob in a Verdict, the diffID in a Diff. An image without such a
	// layer has none.
	First       string   `json:"first,omitempty"`
	Second      string   `json:"second,omitempty"`
	Line        int      `json:"line,omitempty"` // of the Dockerfile; 0 if unknown
	Instruction string   `json:"instruction,omitempty"`
	From        []Origin `json:"from,omitempty"`   // the instructions that made what the layer copies
	Caches      []string `json:"caches,omitempty"` // cache mounts that were empty in the second build
	Files       []File   `json:"paths"`            // if empty, the order of the entries differs
	Patch       string   `json:"patch,omitempty"`  // a unified diff of the Dockerfile for this layer
}

// Origin is an instruction of the Dockerfile.
type Origin struct {
	Line        int    `json:"line"`
	Instruction string `json:"instruction"`
}

// Change is how a path, a package or a setting differs between the first image and the second.
type Change string

// The values of Change.
const (
	Added   Change = "added" // only the second has it
	Removed Change = "removed"
	Changed Change = "changed"
)

// File is a path that differs.
type File struct {
	Path   string   `json:"path"` // absolute
	Change Change   `json:"change"`
	What   []string `json:"what,omitempty"`  // type, content, mode, owner, time, target, device or xattrs
	First  *Stat    `json:"first,omitempty"` // nil if the image does not have it, or it was not read
	Second *Stat    `json:"second,omitempty"`
	Causes []Cause  `json:"causes,omitempty"`
	// Package is the Debian package that came or went with the path.
	Package string `json:"package,omitempty"`

	below int // paths that it stands for in a text
}

// Stat is a path in one of the two images.
type Stat struct {
	Type   string `json:"type"` // file, directory, symlink, hardlink, char, block, fifo or whiteout
	Size   int64  `json:"size"` // in bytes
	Mode   string `json:"mode"` // octal, with setuid, setgid and sticky
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	Time   string `json:"time"`             // in RFC 3339
	Target string `json:"target,omitempty"` // of a link
	Device string `json:"device,omitempty"` // MAJOR:MINOR
	// Excerpt is a part of the content, for a page; nil if there is none, or it may be secret.
	Excerpt *Excerpt `json:"-"`
}

// Excerpt is a part of a file's content. Whether a page shows it as text or as bytes depends on Data.
type Excerpt struct {
	Data      []byte // a page shows at most the first 4 KiB
	Offset    int64  // in the file, in bytes
	Line      int    // of its first line, from 1; 0 if unknown
	Truncated bool   // the file goes on behind it
}

// Cause is one reason why a file differs.
type Cause struct {
	Kind   string `json:"kind"`            // one of docs/causes.md
	Where  string `json:"where,omitempty"` // a member of the file if that is an archive
	Offset int64  `json:"offset"`          // of the first difference in bytes; -1 if it is not in the content
	First  string `json:"first,omitempty"` // a short excerpt
	Second string `json:"second,omitempty"`
	Why    string `json:"why"`
	Fix    string `json:"fix"`
	Format string `json:"format,omitempty"` // how a time or a name is written
	Clock  string `json:"clock,omitempty"`  // build or file: where a time comes from
	Count  int    `json:"count"`            // how many places have this cause; the first is described
}

// Diff compares two images for diff and explain. A list that was not asked for is empty.
type Diff struct {
	Same     bool      `json:"same"`
	First    Side      `json:"first"`
	Second   Side      `json:"second"`
	Files    []File    `json:"files"` // in the file trees that the layers add up to; explain adds the causes
	Packages []Package `json:"packages"`
	Config   []Setting `json:"config"`
	History  []Step    `json:"history"`
	Sizes    *Sizes    `json:"sizes,omitempty"`
	Layers   []Layer   `json:"layers"`
	Shared   []string  `json:"shared"`          // the diffIDs of the lowest layers, which both images have
	Notes    []string  `json:"notes,omitempty"` // what could not be compared, and why
}

// Side is one of the two images.
type Side struct {
	Name     string `json:"name,omitempty"` // as the user gave it
	Digest   string `json:"digest"`         // of the manifest
	Platform string `json:"platform"`
}

// Package is a package that differs. An image that has several versions of it has them joined by ", ".
type Package struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Change Change `json:"change"`
	First  string `json:"first,omitempty"`
	Second string `json:"second,omitempty"`
}

// Setting is a value of the image config that differs.
type Setting struct {
	Key    string `json:"key"` // a path such as config.Env.PATH
	Change Change `json:"change"`
	First  string `json:"first,omitempty"` // a string as it is, any other value as JSON
	Second string `json:"second,omitempty"`
}

// Step is an entry of the history that differs.
type Step struct {
	Index  int        `json:"index"` // from 0
	First  *StepState `json:"first,omitempty"`
	Second *StepState `json:"second,omitempty"`
}

// StepState is an entry of one image's history.
type StepState struct {
	Created    string `json:"created,omitempty"` // in RFC 3339
	CreatedBy  string `json:"created_by,omitempty"`
	Author     string `json:"author,omitempty"`
	Comment    string `json:"comment,omitempty"`
	EmptyLayer bool   `json:"empty_layer,omitempty"`
}

// Sizes are the sizes of the compressed layers, in bytes.
type Sizes struct {
	First  int64       `json:"first"`
	Second int64       `json:"second"`
	Layers []LayerSize `json:"layers"` // those that differ
}

// LayerSize is the size of the layers at one position.
type LayerSize struct {
	Index  int   `json:"index"`
	First  int64 `json:"first"`
	Second int64 `json:"second"`
}

// Lock is what lock wrote, or would write.
type Lock struct {
	Check   bool         `json:"check"`   // nothing was written
	Changed bool         `json:"changed"` // the lockfile is, or would be, another one
	Target  string       `json:"target"`
	Sources int          `json:"sources"` // how many are locked
	Changes []LockChange `json:"changes"`
	// Downloads is how the record of downloads changed. It is nil if downloads are not locked.
	Downloads *Downloads `json:"downloads,omitempty"`
	// Images are the images that moved, with their packages. Only JSON and Markdown have them.
	Images []ImageMove `json:"images,omitempty"`
}

// ImageMove is an image whose pin moved.
type ImageMove struct {
	Ref      string    `json:"ref"`
	Old      string    `json:"old"`
	New      string    `json:"new"`
	Packages []Package `json:"packages"` // those that differ
}

// LockChange is an entry of the lockfile that changed. Old or New is empty if that lockfile has no such entry.
type LockChange struct {
	Kind string `json:"kind"`          // image, local, url, git, target, strict-target, epoch, rules or environment
	Ref  string `json:"ref,omitempty"` // of a source, or a stage and a variable
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// Format is a form that Write gives a report.
type Format string

// The formats.
const (
	Text     Format = "text"
	JSON     Format = "json"
	Markdown Format = "markdown"
	HTML     Format = "html"
	SARIF    Format = "sarif"  // of lint alone
	GitHub   Format = "github" // of lint alone: commands of GitHub Actions
)

// FileFormat returns the format that a file's name asks for: JSON or Markdown by its ending, and otherwise HTML.
func FileFormat(name string) Format {
	switch filepath.Ext(name) {
	case ".json":
		return JSON
	case ".md":
		return Markdown
	}
	return HTML
}

// Write writes r in a format. An error may leave a part of it written.
func Write(w io.Writer, f Format, r *Report) error {
	switch f {
	case Text:
		return writeText(w, r)
	case JSON:
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	case Markdown:
		return writeMarkdown(w, r)
	case HTML:
		return writeHTML(w, r)
	case SARIF:
		return writeSARIF(w, r)
	case GitHub:
		return writeGitHub(w, r)
	}
	return fmt.Errorf("there is no format %q of a report", f)
}

// Headline is the answer in a line.
func (r *Report) Headline() string { return r.headline() }

// Yes reports whether the answer is yes: the builds, or the images, are the same or near enough, or lint found no
// error.
func (r *Report) Yes() bool {
	switch {
	case r.Lint != nil:
		return r.count(lint.Error) == 0
	case r.Drift != nil:
		return r.Drift.Within
	case r.Promotion != nil:
		return r.Promotion.Yes
	}
	return (r.Image == nil || r.Verdict == nil || r.Verdict.Reproducible) && (r.Diff == nil || r.Same)
}
