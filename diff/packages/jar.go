package packages

import (
	stdzip "archive/zip"
	"bytes"
	"io"
	"path"
	"strings"

	"github.com/kedge-build/kedge/internal/format/zip"
)

// The limits for jars: a web application holds the jars of its libraries.
const (
	maxNested  = 64 << 20 // bytes of a jar within a jar
	maxMembers = 1 << 18
)

// jar reads Maven's pom.properties of a Java archive, or its manifest if there are none, and those of the
// jars in it.
func jar(r io.ReaderAt, size int64) ([]Package, error) {
	l := list{kind: "maven"}
	err := l.jar(r, size, true)
	return l.all, err
}

func (l *list) jar(r io.ReaderAt, size int64, nested bool) error {
	z, err := zip.Open(r, size, maxMembers)
	if err != nil {
		return err
	}
	before := len(l.all)
	var manifest *stdzip.File
	for _, f := range z.File {
		switch {
		case strings.HasPrefix(f.Name, "META-INF/maven/") && path.Base(f.Name) == "pom.properties":
			keys, err := properties(f, "=")
			if err != nil {
				return err
			}
			name := keys["artifactId"]
			if group := keys["groupId"]; group != "" {
				name = group + ":" + name
			}
			if err := l.add(name, keys["version"]); err != nil {
				return err
			}
		case f.Name == "META-INF/MANIFEST.MF":
			manifest = f
		}
	}
	if len(l.all) == before && manifest != nil {
		keys, err := properties(manifest, ":")
		if err != nil {
			return err
		}
		if err := l.add(first(keys, "Bundle-SymbolicName", "Implementation-Title", "Specification-Title"),
			first(keys, "Bundle-Version", "Implementation-Version", "Specification-Version")); err != nil {
			return err
		}
	}
	if !nested {
		return nil
	}
	for _, f := range z.File {
		if path.Ext(f.Name) != ".jar" || f.UncompressedSize64 > maxNested {
			continue
		}
		// A broken jar within a jar names nothing; the others still do.
		if data, err := member(f, maxNested); err == nil {
			_ = l.jar(bytes.NewReader(data), int64(len(data)), false)
		}
	}
	return nil
}

func member(f *stdzip.File, limit int64) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, limit))
}

// properties reads lines of KEY SEP VALUE. A line of a manifest that begins with a space continues
// the one before (https://docs.oracle.com/en/java/javase/21/docs/specs/jar/jar.html).
func properties(f *stdzip.File, sep string) (map[string]string, error) {
	data, err := member(f, maxDocument)
	if err != nil {
		return nil, err
	}
	keys := map[string]string{}
	text := strings.ReplaceAll(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n ", "")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if sep == ":" && line == "" {
			break // the rest is about single files
		}
		if key, value, ok := strings.Cut(line, sep); ok {
			keys[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return keys, nil
}

func first(keys map[string]string, names ...string) string {
	for _, name := range names {
		if v := keys[name]; v != "" {
			v, _, _ = strings.Cut(v, ";") // the directives of an OSGi name
			return v
		}
	}
	return ""
}
