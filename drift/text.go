package drift

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/pelletier/go-toml/v2"
)

// The files of a record.
const (
	imageFile    = "image"
	packagesFile = "packages"
	filesDir     = "files"
)

const (
	maxText   = 512 << 20 // bytes of each file of a record
	maxParts  = 200       // folders of the first level that have a file each
	manyPaths = 1000      // paths of a folder of the second level that has a file of its own
)

const header = "# What the image of this Dockerfile is. Written by `kedge drift`; commit it, do not edit it.\n"

// A FormatError says that a record cannot be read.
type FormatError struct {
	File string
	Line int // from 1; 0 if it is about the whole file
	Msg  string
	// Newer says that a newer kedge wrote it.
	Newer bool
}

func (e *FormatError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Msg
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
}

// Format returns the canonical text of a record: its files by their names, with slashes. Equal records have
// equal texts.
func (r *Record) Format() map[string][]byte {
	text := map[string][]byte{imageFile: r.image(), packagesFile: lines(r.Packages)}
	part := r.partition()
	parts := map[string]*bytes.Buffer{}
	for i := range r.Files {
		name := part(r.Files[i].Path)
		if parts[name] == nil {
			parts[name] = &bytes.Buffer{}
		}
		r.Files[i].write(parts[name])
	}
	for name, b := range parts {
		text[filesDir+"/"+name] = b.Bytes()
	}
	return text
}

func lines(list []string) []byte {
	var b bytes.Buffer
	for _, s := range list {
		b.WriteString(s + "\n")
	}
	return b.Bytes()
}

// image returns the text of the file image.
func (r *Record) image() []byte {
	var b bytes.Buffer
	b.WriteString(header)
	fmt.Fprintf(&b, "version = %d\n", formatVersion)
	for _, kv := range [][2]string{{"reason", r.Reason}, {"digest", r.Digest}, {"platform", r.Platform}, {"base", r.Base}} {
		if kv[1] != "" {
			fmt.Fprintf(&b, "%s = %s\n", kv[0], quote(kv[1]))
		}
	}
	fmt.Fprintf(&b, "size = %d\ndownload = %d\nfiles = %d\npackages = %d\n", r.Size(), r.Download, len(r.Files), len(r.Packages))
	array(&b, "layers", r.Layers, Layer.text)
	array(&b, "sources", r.Sources, func(s string) string { return s })
	table(&b, "config", r.Config, quote)
	table(&b, "folders", r.folders(), func(n int64) string { return strconv.FormatInt(n, 10) })
	table(&b, "findings", r.Findings, strconv.Itoa)
	privileged, writable := map[string]string{}, map[string]string{}
	for i := range r.Files {
		f := &r.Files[i]
		what := fmt.Sprintf("%s %s %d:%d", f.Type, octal(f.Mode), f.UID, f.GID)
		if f.privileged() {
			privileged[f.Path] = strings.TrimSpace(what + " " + f.Xattrs)
		}
		if f.writable() {
			writable[f.Path] = what
		}
	}
	table(&b, "privileged", privileged, quote)
	table(&b, "world-writable", writable, quote)
	return b.Bytes()
}

func (l Layer) text() string { return fmt.Sprintf("%s %d %s", l.DiffID, l.Size, l.By) }

func array[T any](b *bytes.Buffer, name string, list []T, text func(T) string) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "%s = [\n", name)
	for _, v := range list {
		fmt.Fprintf(b, "  %s,\n", quote(text(v)))
	}
	b.WriteString("]\n")
}

func table[V any](b *bytes.Buffer, name string, values map[string]V, text func(V) string) {
	if len(values) == 0 {
		return
	}
	fmt.Fprintf(b, "\n[%s]\n", name)
	for _, key := range slices.SortedFunc(maps.Keys(values), comparePaths) {
		fmt.Fprintf(b, "%s = %s\n", quote(key), text(values[key]))
	}
}

// quote returns s as a TOML basic string. A byte that is not UTF-8 becomes \xHH in the string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\\x%02x`, s[0])
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || !strconv.IsPrint(r) && r <= 0xffff:
			fmt.Fprintf(&b, `\u%04X`, r)
		case !strconv.IsPrint(r):
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			b.WriteRune(r)
		}
		s = s[n:]
	}
	b.WriteByte('"')
	return b.String()
}

// partition returns a function that names the file of files in which a path stands: by the folder of the first level
// that it is in, and by the second, as usr.lib, if that has many paths. So a file stays short enough to be shown
// and merged, and a small image has few.
func (r *Record) partition() func(path string) string {
	top, second := map[string]bool{}, map[string]int{}
	for i := range r.Files {
		path := r.Files[i].Path
		second[partName(path, 2)]++
		if top[partName(path, 1)] = true; len(top) > maxParts {
			return func(string) string { return "all" }
		}
	}
	return func(path string) string {
		if name := partName(path, 2); second[name] >= manyPaths {
			return name
		}
		return partName(path, 1)
	}
}

// partName returns a name that every file system takes. Several folders may have the same one.
func partName(path string, levels int) string {
	parts := strings.SplitN(strings.TrimPrefix(path, "/"), "/", levels+1)
	parts = parts[:len(parts)-1]
	if len(parts) == 0 {
		return "top"
	}
	for i, p := range parts {
		parts[i] = strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
				return r
			}
			return '_'
		}, strings.ToLower(p[:min(len(p), 60)]))
	}
	return strings.Join(parts, ".")
}

// write writes the line of a file: PATH TYPE MODE UID:GID, and then SIZE DIGEST for a file, -> TARGET for a
// symlink or MAJOR:MINOR for a device. A file that is another name of one before has "linked" before its size.
func (f *File) write(b *bytes.Buffer) {
	b.WriteString(field(f.Path))
	fmt.Fprintf(b, " %s %s %d:%d", f.Type, octal(f.Mode), f.UID, f.GID)
	switch f.Type {
	case "file":
		if f.linked {
			b.WriteString(" linked")
		}
		fmt.Fprintf(b, " %d %s", f.Size, f.Digest)
	case "symlink":
		b.WriteString(" -> " + field(f.Target))
	case "char", "block":
		b.WriteString(" " + f.Device)
	}
	if f.Xattrs != "" {
		b.WriteString(" " + f.Xattrs)
	}
	b.WriteByte('\n')
}

// field returns s, in quotes unless it is a plain word.
func field(s string) string {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return strconv.QuoteToASCII(s)
		}
	}
	return cmp.Or(s, `""`)
}

// parseFile reads the line of a file.
func parseFile(line string) (f File, err error) {
	bad := errors.New("it is not the line of a path")
	word := func() (w string) {
		if w, line, _ = strings.Cut(line, " "); w == "" {
			err = bad
		}
		return w
	}
	text := func() string {
		if !strings.HasPrefix(line, `"`) {
			return word()
		}
		quoted, qerr := strconv.QuotedPrefix(line)
		if qerr != nil {
			err = bad
			return ""
		}
		line = strings.TrimPrefix(line[len(quoted):], " ")
		s, _ := strconv.Unquote(quoted)
		return s
	}
	number := func(s string, base int) int64 {
		n, nerr := strconv.ParseInt(s, base, 64)
		if nerr != nil || n < 0 {
			err = bad
		}
		return n
	}
	f.Path, f.Type, f.Mode = text(), word(), number(word(), 8)
	uid, gid, _ := strings.Cut(word(), ":")
	f.UID, f.GID = int(number(uid, 10)), int(number(gid, 10))
	switch f.Type {
	case "file":
		if rest, ok := strings.CutPrefix(line, "linked "); ok {
			f.linked, line = true, rest
		}
		f.Size, f.Digest = number(word(), 10), word()
	case "symlink":
		if arrow := word(); arrow != "->" {
			err = bad
		}
		f.Target = text()
	case "char", "block":
		f.Device = word()
	case "directory", "fifo":
	default:
		err = bad
	}
	f.Xattrs = line
	return f, err
}

// document is the file image, as TOML. Its totals and its lists of paths follow from the rest of the record.
type document struct {
	Version  int               `toml:"version"`
	Reason   string            `toml:"reason"`
	Digest   string            `toml:"digest"`
	Platform string            `toml:"platform"`
	Base     string            `toml:"base"`
	Size     int64             `toml:"size"`
	Download int64             `toml:"download"`
	Files    int               `toml:"files"`
	Packages int               `toml:"packages"`
	Layers   []string          `toml:"layers"`
	Sources  []string          `toml:"sources"`
	Config   map[string]string `toml:"config"`
	Folders  map[string]int64  `toml:"folders"`

	Findings   map[string]int    `toml:"findings"`
	Privileged map[string]string `toml:"privileged"`
	Writable   map[string]string `toml:"world-writable"`
}

// parseImage reads the file image, whose name in errors is name.
func parseImage(name string, text []byte) (*document, []Layer, error) {
	if len(text) > maxText {
		return nil, nil, &FormatError{File: name, Msg: "it is too large"}
	}
	var version struct {
		Version int `toml:"version"`
	}
	if err := toml.Unmarshal(text, &version); err != nil {
		return nil, nil, tomlError(name, err)
	}
	if version.Version > formatVersion {
		return nil, nil, &FormatError{File: name, Msg: fmt.Sprintf("version %d is newer than this kedge, which reads version %d: use a newer kedge", version.Version, formatVersion), Newer: true}
	}
	if version.Version != formatVersion {
		return nil, nil, &FormatError{File: name, Msg: "no version: this is not a record of kedge drift"}
	}
	d := &document{}
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(d); err != nil {
		return nil, nil, tomlError(name, err)
	}
	var layers []Layer
	for _, s := range d.Layers {
		diffID, rest, _ := strings.Cut(s, " ")
		size, by, _ := strings.Cut(rest, " ")
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			return nil, nil, &FormatError{File: name, Msg: fmt.Sprintf("%.60q is no layer: DIFFID SIZE INSTRUCTION", s)}
		}
		layers = append(layers, Layer{diffID, n, by})
	}
	return d, layers, nil
}

// tomlError returns the first problem of a TOML file with its line.
func tomlError(name string, err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		line, _ := strict.Errors[0].Position()
		return &FormatError{File: name, Line: line, Msg: fmt.Sprintf("unknown key %q", strings.Join(strict.Errors[0].Key(), "."))}
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		line, _ := decode.Position()
		why, _, typed := strings.Cut(strings.TrimPrefix(decode.Error(), "toml: "), " into ")
		if typed { // what follows are types of Go
			why = fmt.Sprintf("%s for %q", strings.Replace(why, "cannot decode", "unexpected", 1), strings.Join(decode.Key(), "."))
		}
		return &FormatError{File: name, Line: line, Msg: why}
	}
	return &FormatError{File: name, Msg: strings.TrimPrefix(err.Error(), "toml: ")}
}

// Load reads the record in the folder dir. The error wraps fs.ErrNotExist if there is none, and is a
// *FormatError if there is one that kedge did not write so.
func Load(dir string) (*Record, error) {
	texts := map[string][]byte{}
	read := func(name string) error {
		text, err := wholefile.Read(filepath.Join(dir, filepath.FromSlash(name)), maxText)
		texts[name] = text
		return err
	}
	err := errors.Join(read(imageFile), read(packagesFile))
	parts, dirErr := os.ReadDir(filepath.Join(dir, filesDir))
	err = errors.Join(err, dirErr)
	for _, e := range parts {
		err = errors.Join(err, read(filesDir+"/"+e.Name()))
	}
	if err != nil {
		return nil, fmt.Errorf("reading the record %q: %w", dir, err)
	}
	return parse(dir, texts)
}

// parse reads a record from its files, by their names with slashes. The record's own name is for errors.
func parse(name string, texts map[string][]byte) (*Record, error) {
	for _, file := range slices.Sorted(maps.Keys(texts)) {
		if line := conflict(texts[file]); line > 0 {
			return nil, &FormatError{File: filepath.Join(name, file), Line: line, Msg: "git left a merge conflict here: take either side of the record as a whole, or record again"}
		}
	}
	d, layers, err := parseImage(filepath.Join(name, imageFile), texts[imageFile])
	if err != nil {
		return nil, err
	}
	r := &Record{
		Reason: d.Reason, Digest: d.Digest, Platform: d.Platform, Base: d.Base, Download: d.Download,
		Layers: layers, Config: d.Config, Sources: d.Sources, Findings: d.Findings,
	}
	if r.Config == nil {
		r.Config = map[string]string{}
	}
	for line := range strings.Lines(string(texts[packagesFile])) {
		r.Packages = append(r.Packages, strings.TrimSuffix(line, "\n"))
	}
	for _, file := range slices.Sorted(maps.Keys(texts)) {
		if strings.HasPrefix(file, filesDir+"/") {
			if err := r.parseFiles(filepath.Join(name, file), texts[file]); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(r.Files, func(a, b File) int { return comparePaths(a.Path, b.Path) })
	return r, r.canonical(name, texts)
}

func (r *Record) parseFiles(name string, text []byte) error {
	scan := bufio.NewScanner(bytes.NewReader(text))
	scan.Buffer(nil, 1<<20)
	line := 0
	for scan.Scan() {
		line++
		f, err := parseFile(scan.Text())
		if err != nil {
			return &FormatError{File: name, Line: line, Msg: err.Error()}
		}
		r.Files = append(r.Files, f)
	}
	if err := scan.Err(); err != nil {
		return &FormatError{File: name, Line: line + 1, Msg: err.Error()}
	}
	return nil
}

// conflict returns the line of the first marker of a merge conflict, 0 if there is none. No line of a record begins
// as a marker does.
func conflict(text []byte) int {
	const marker = "<<<<<<< "
	if bytes.HasPrefix(text, []byte(marker)) {
		return 1
	}
	before, _, found := bytes.Cut(text, []byte("\n"+marker))
	if !found {
		return 0
	}
	return bytes.Count(before, []byte("\n")) + 2
}

// canonical returns an error unless the texts are those of r: someone has edited one, or git has merged two
// records line by line.
func (r *Record) canonical(name string, have map[string][]byte) error {
	const why = "it does not agree with the rest of the record: it was edited, is being written, or is a merge of two records; take either side as a whole, or record again"
	want := r.Format()
	for _, file := range slices.Sorted(maps.Keys(want)) {
		if text, ok := have[file]; !ok || !bytes.Equal(text, want[file]) {
			return &FormatError{File: filepath.Join(name, file), Line: differingLine(text, want[file]), Msg: why}
		}
	}
	for _, file := range slices.Sorted(maps.Keys(have)) {
		if _, ok := want[file]; !ok {
			return &FormatError{File: filepath.Join(name, file), Msg: why}
		}
	}
	return nil
}

// differingLine returns the number of the first line of a that b does not have there.
func differingLine(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return bytes.Count(a[:n], []byte("\n")) + 1
}

// A ForeignError says that a folder which a record would replace holds something else.
type ForeignError struct{ Dir string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%q is not empty, and no record of kedge drift: it is not replaced", e.Dir)
}

// Save writes the record to the folder dir, replacing the record that is there. It writes no file that stays
// as it is. The error is a *ForeignError if the folder holds something else, and a *FormatError if a newer kedge wrote it.
func (r *Record) Save(dir string) error {
	if err := replaceable(dir); err != nil {
		return err
	}
	text := r.Format()
	if err := os.MkdirAll(filepath.Join(dir, filesDir), 0o777); err != nil {
		return err
	}
	stale, err := os.ReadDir(filepath.Join(dir, filesDir))
	if err != nil {
		return err
	}
	// The file image comes first: it tells a run after one that was killed that the folder is a record, and Load
	// that the rest does not agree with it.
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(text)), func(name string) bool { return name == imageFile })
	for _, name := range append([]string{imageFile}, names...) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if old, err := wholefile.Read(path, maxText); err == nil && bytes.Equal(old, text[name]) {
			continue
		}
		if err := wholefile.WriteBytes(path, text[name], 0o666); err != nil {
			return fmt.Errorf("writing the record: %w", err)
		}
	}
	for _, e := range stale {
		if text[filesDir+"/"+e.Name()] == nil {
			if err := os.Remove(filepath.Join(dir, filesDir, e.Name())); err != nil {
				return fmt.Errorf("writing the record: %w", err)
			}
		}
	}
	return nil
}

// replaceable returns an error unless dir is absent, empty or a record of no newer kedge.
func replaceable(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	image, err := wholefile.Read(filepath.Join(dir, imageFile), maxText)
	if err != nil || !bytes.HasPrefix(image, []byte(header)) {
		return &ForeignError{dir}
	}
	var newer *FormatError
	if _, _, err := parseImage(filepath.Join(dir, imageFile), image); errors.As(err, &newer) && newer.Newer {
		return err
	}
	return nil
}
