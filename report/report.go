// Package report renders what is known of two builds, or of two images, as one HTML page that needs
// nothing else: no network, and no script for reading it.
package report

import (
	"bufio"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"sync"
	"time"
)

// Outcome is what a comparison found.
type Outcome string

// The outcomes of a Report. Every other value is shown as Unverified.
const (
	Same       Outcome = "same"
	Different  Outcome = "different"
	Unverified Outcome = "unverified" // there was nothing to compare with
)

// Change is how a path differs between the first and the second image.
type Change string

// The changes of a File. Every other value is shown as Changed.
const (
	Added   Change = "added" // only the second has it
	Removed Change = "removed"
	Changed Change = "changed"
)

// Report is what the page shows. Every string may come from a hostile image; a zero value of any
// field means that it is not known, and is not shown.
type Report struct {
	Title    string  `json:"title"`
	Outcome  Outcome `json:"outcome"`
	Sentence string  `json:"sentence"` // the verdict in words
	// First and Second are what the two are called: "first build", a reference.
	First  string `json:"first,omitempty"`
	Second string `json:"second,omitempty"`

	Created    time.Time `json:"created,omitzero"`
	Command    string    `json:"command,omitempty"`
	Dockerfile string    `json:"dockerfile,omitempty"`
	Lockfile   string    `json:"lockfile,omitempty"`
	Epoch      time.Time `json:"epoch,omitzero"`
	ArgsHash   string    `json:"argsHash,omitempty"`

	Platforms  []Platform   `json:"platforms"`
	Pins       []Pin        `json:"pins,omitempty"`
	Packages   []Package    `json:"packages,omitempty"`
	Config     []Setting    `json:"config,omitempty"`
	Normalised []Normalised `json:"normalised,omitempty"`
}

// Platform is the comparison of the two images for one platform.
type Platform struct {
	Platform string  `json:"platform"`
	First    string  `json:"first"` // the digest of the manifest
	Second   string  `json:"second,omitempty"`
	Same     bool    `json:"same"`
	Layers   []Layer `json:"layers,omitempty"` // those that differ
}

// Layer is a layer that differs.
type Layer struct {
	Index       int    `json:"index"`          // from 0; below 0: all layers as one file system
	Line        int    `json:"line,omitempty"` // of the Dockerfile
	Instruction string `json:"instruction,omitempty"`
	First       string `json:"first,omitempty"` // the digest; empty where that image has no such layer
	Second      string `json:"second,omitempty"`
	Files       []File `json:"files"`
}

// File is a path that differs.
type File struct {
	Path   string   `json:"path"`
	Change Change   `json:"change"`
	What   []string `json:"what,omitempty"`  // of a changed path: content, mode, owner, time and the like
	First  *Version `json:"first,omitempty"` // nil where it is not there, or nothing is known of it
	Second *Version `json:"second,omitempty"`
	Causes []Cause  `json:"causes,omitempty"`
	Patch  string   `json:"patch,omitempty"` // to the Dockerfile, as a unified diff
}

// Version is a file as one of the two images has it.
type Version struct {
	Type    string    `json:"type,omitempty"`
	Mode    string    `json:"mode,omitempty"`
	Owner   string    `json:"owner,omitempty"`
	Size    int64     `json:"size,omitempty"`
	Time    time.Time `json:"time,omitzero"`
	Link    string    `json:"link,omitempty"` // what a link points to
	Excerpt *Excerpt  `json:"excerpt,omitempty"`
}

// Excerpt is a part of a file's content. Whether it is shown as text or as bytes follows from Data.
type Excerpt struct {
	Data      []byte `json:"data"`             // no more than the first 4 KiB of it are shown
	Offset    int64  `json:"offset,omitempty"` // where it begins in the file, in bytes
	Line      int    `json:"line,omitempty"`   // of its first line, from 1
	Truncated bool   `json:"truncated,omitempty"`
}

// Cause is why a file differs.
type Cause struct {
	Kind   string `json:"kind"`
	Where  string `json:"where,omitempty"` // within the file, or the instruction that did it
	Why    string `json:"why,omitempty"`
	Fix    string `json:"fix,omitempty"`
	Link   string `json:"link,omitempty"` // https, or it is left out
	First  string `json:"first,omitempty"`
	Second string `json:"second,omitempty"`
}

// Pin is a source that the lockfile pins.
type Pin struct {
	Kind   string `json:"kind"` // image, url, git
	Ref    string `json:"ref"`
	Digest string `json:"digest"` // or commit
}

// Package is a package that differs, by its versions; one that an image lacks has none there.
type Package struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	First  string `json:"first,omitempty"`
	Second string `json:"second,omitempty"`
}

// Setting is a part of the image config that differs.
type Setting struct {
	Key    string `json:"key"`
	First  string `json:"first,omitempty"`
	Second string `json:"second,omitempty"`
}

// Normalised is how often a rule of normalisation applied.
type Normalised struct {
	Rule  string `json:"rule"`
	Count int    `json:"count"`
	Why   string `json:"why,omitempty"`
}

//go:embed report.html.tmpl
var markup string

//go:embed report.css
var style string

//go:embed report.js
var script string

var parsed = sync.OnceValues(func() (*template.Template, error) {
	return template.New("report").Funcs(template.FuncMap{"n": grouped}).Parse(markup)
})

// HTML writes r as a page. What does not fit into a page that a browser can show is left out and
// counted there. Where it fails, a part of the page may have been written.
func HTML(w io.Writer, r *Report) error {
	if r == nil {
		return errors.New("rendering a report: there is none")
	}
	t, err := parsed()
	if err != nil {
		return fmt.Errorf("parsing the template of the report: %w", err)
	}
	b := bufio.NewWriterSize(w, 64<<10)
	if err := t.Execute(b, newPage(r)); err != nil {
		return fmt.Errorf("rendering the report of %q: %w", r.Title, err)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("writing the report of %q: %w", r.Title, err)
	}
	return nil
}

// policy is the page's Content-Security-Policy: its own script and style run, by their hash, and
// nothing is loaded from anywhere.
func policy() string {
	source := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; script-src " + source(script) + "; style-src " + source(style) +
		"; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
}
