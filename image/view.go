package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/kedge-build/kedge/internal/format/gitindex"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/rules"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/blake2b"
)

// A view is what rules need to know of a whole image: the paths that it names, and the digests that stand in it.
type view struct {
	named, volumes []string // sorted, without a slash before them
	signed         []string // files with a detached signature, without a slash before them
	words          []string // that the Dockerfile and its arguments name, of rules.Words
	asked          []string // ids of rules; see rules.Asked
	texts          string   // of scripts that COPY and ADD brought; see survey
	digests        [][]byte // of each layer; see survey
	days           []int64  // on which RUNs of the layers so far ran
}

// A survey is what one layer adds to the view of its image. Fields are exported for encoding/gob.
type survey struct {
	// Named are the targets of symbolic links that rules must know, sorted.
	Named []string
	// Signed are the files beside which there is one with their name and another ending, such as a detached signature, and
	// what signatures are called without theirs.
	Signed []string
	// Scripts are the paths that rules must know in short scripts, by the path of the script.
	Scripts map[string][]string
	// Texts are those of short scripts, of a layer that COPY or ADD brought, that name such a path.
	Texts string
	// Digests are the first eight bytes of everything in the files that looks like a digest, sorted.
	Digests []byte
}

// surveyed returns the survey of a layer that the store keeps under an id, or that scan makes. brought says that COPY or
// ADD brought its files from outside.
func (in *Ingest) surveyed(layer digest.Digest, brought bool, scan func(*surveyor) error) (survey, error) {
	var s survey
	id := digest.FromString(fmt.Sprintf("survey 6 %v %s", brought, layer))
	if i := slices.IndexFunc(in.surveys, func(k keptSurvey) bool { return k.id == id }); i >= 0 {
		return in.surveys[i].survey, nil // of the export before this one
	}
	if listing, ok := in.store.Listing(id); ok && gob.NewDecoder(bytes.NewReader(listing)).Decode(&s) == nil {
		return s, nil
	}
	v := &surveyor{seen: map[uint64]struct{}{}, brought: brought}
	if err := scan(v); err != nil {
		return survey{}, err
	}
	v.sort()
	if !in.opts.Second {
		in.surveys = append(in.surveys, keptSurvey{id, v.survey})
	}
	return v.survey, nil
}

// A keptSurvey is a survey to keep for later builds once the image is written.
type keptSurvey struct {
	id digest.Digest
	survey
}

func (in *Ingest) keepSurveys() {
	for _, s := range in.surveys {
		var b bytes.Buffer
		if gob.NewEncoder(&b).Encode(s.survey) == nil {
			in.draft.KeepListing(s.id, b.Bytes())
		}
	}
}

// view looks at all layers of an export. The error is a *NotSentError if layers are needed that were not sent. All of them
// are noted, so that one more export is enough.
func (in *Ingest) view(ctx context.Context, e export) (*view, error) {
	v := &view{words: rules.Words(e.Text)}
	settings := e.config.settings()
	v.named, v.volumes = settings.named, settings.volumes
	v.asked = rules.Asked(e.Text, settings.text)
	text := &surveyor{seen: map[uint64]struct{}{}}
	_, _ = text.Write([]byte(e.Text + "\n"))
	for _, d := range e.Downloads {
		_, _ = text.Write([]byte(d.Encoded() + "\n"))
	}
	text.sort()
	v.digests = append(v.digests, text.Digests)
	var missing *NotSentError
	for i, l := range e.layers {
		scan := func(s *surveyor) error {
			r, err := in.openLayer(ctx, e, i)
			if err != nil {
				return err
			}
			defer r.Close()
			return s.scan(r)
		}
		s, err := in.surveyed(e.config.diffIDs[i], i >= e.BaseLayers && !e.Run[i], scan)
		if errors.As(err, &missing) {
			continue
		}
		if err != nil {
			return nil, atLine(fmt.Errorf("layer %s: %w", l.Digest, err), e.File, e.Lines[i])
		}
		v.named = append(v.named, s.Named...)
		v.texts += s.Texts
		for name, named := range s.Scripts {
			if settings.runs(name) {
				v.named = append(v.named, named...)
			}
		}
		v.signed = append(v.signed, s.Signed...)
		v.digests = append(v.digests, s.Digests)
	}
	if missing != nil {
		return nil, missing
	}
	v.named = slices.DeleteFunc(v.named, func(name string) bool { return !rules.Concerns(name) })
	slices.Sort(v.named)
	v.named = slices.Compact(v.named)
	return v, nil
}

// openLayer opens a layer of an export as the builder made it.
func (in *Ingest) openLayer(ctx context.Context, e export, i int) (*layer.Reader, error) {
	l := store.Layer{Descriptor: e.layers[i], DiffID: e.config.diffIDs[i]}
	if i < e.BaseLayers {
		return store.OpenLayer(ctx, in, l)
	}
	return in.openRaw(ctx, l)
}

// has reports whether a digest, or another value of that form, stands in the image.
func (v *view) has(sum []byte) bool {
	n := binary.BigEndian.Uint64(sum)
	return slices.ContainsFunc(v.digests, func(digests []byte) bool {
		_, ok := sort.Find(len(digests)/8, func(i int) int { return cmp.Compare(n, binary.BigEndian.Uint64(digests[8*i:])) })
		return ok
	})
}

// chosen reports whether a word was chosen, and not made up by a tool.
func (v *view) chosen(word string) bool {
	if slices.Contains(v.words, word) {
		return true
	}
	id, err := hex.DecodeString(word)
	return err == nil && len(id) == 16 && v.has(id)
}

// signedKey starts the key of a file that may have a signature beside it.
const signedKey = "signed "

// archiveKey holds the first eight bytes of the digests of a file by which others may know it.
func archiveKey(content []byte) string {
	m, s1 := md5.Sum(content), sha1.Sum(content)
	s224, s256, s384, s512 := sha256.Sum224(content), sha256.Sum256(content), sha512.Sum384(content), sha512.Sum512(content)
	b256, b512 := blake2b.Sum256(content), blake2b.Sum512(content)
	blob := append(fmt.Appendf(nil, "blob %d\x00", len(content)), content...) // as git names it
	g1, g256 := sha1.Sum(blob), sha256.Sum256(blob)
	return hex.EncodeToString(slices.Concat(m[:8], s1[:8], s224[:8], s256[:8], s384[:8], s512[:8], b256[:8], b512[:8], g1[:8], g256[:8]))
}

// held reports whether a digest of a file stands in the image, or a signature beside the file.
func (v *view) held(key string) bool {
	if name, ok := strings.CutPrefix(key, signedKey); ok {
		for ; name != ""; name = strings.TrimSuffix(name, path.Ext(name)) {
			if slices.Contains(v.signed, name) {
				return true
			}
			if path.Ext(name) == "" {
				break
			}
		}
		return false
	}
	sums, err := hex.DecodeString(key)
	for err == nil && len(sums) >= 8 {
		if v.has(sums) {
			return true
		}
		sums = sums[8:]
	}
	return false
}

// A surveyor makes a survey.
type surveyor struct {
	survey
	seen    map[uint64]struct{}
	brought bool
	run     []byte // the characters of a digest that the last block ended with
}

// signatures are the endings of files with a detached signature of the file whose name is before them: of OpenPGP,
// minisign, signify, Sigstore and S/MIME.
var signatures = []string{".asc", ".gpg", ".minisig", ".p7s", ".sig", ".sign", ".sigstore"}

// ownIDs are files whose own ids are no mention of them.
var ownIDs = []string{"etc/machine-id", "var/lib/dbus/machine-id"}

func (s *surveyor) scan(r *layer.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read layer: %w", err)
		}
		name := layer.Clean(h.Name)
		if rules.Loses(name) && h.Typeflag != tar.TypeSymlink {
			continue // a list of what a cache holds goes with the cache
		}
		s.words(name)
		switch {
		case h.Typeflag == tar.TypeSymlink:
			s.words(h.Linkname)
			s.link(name, h.Linkname)
		case h.Typeflag == tar.TypeReg && !slices.Contains(ownIDs, name):
			s.beside(name)
			s.run = s.run[:0]
			whole := buf[:0]
			switch {
			case h.Size <= int64(len(buf)):
				whole = buf[:h.Size]
			case path.Base(name) == "index" && h.Size <= rules.MaxRead:
				whole = make([]byte, h.Size)
			}
			if _, err := io.ReadFull(r, whole); err != nil {
				return fmt.Errorf("read layer: entry %q: %w", h.Name, err)
			}
			s.small(name, whole)
			_, _ = s.Write(whole)
			if _, err := io.CopyBuffer(onlyWriter{s}, onlyReader{r}, buf); err != nil {
				return fmt.Errorf("read layer: entry %q: %w", h.Name, err)
			}
			s.flush()
		}
	}
}

// maxTexts bounds the texts of a layer.
const maxTexts = 256 << 10

// writes reports whether a script may write files.
func writes(content []byte) bool {
	return slices.ContainsFunc([]string{"echo ", "printf ", "<<"}, func(s string) bool { return bytes.Contains(content, []byte(s)) })
}

// small notes what a small file says as a whole: a digest in binary, the files of a git index, the paths in a script. It
// looks for paths in scripts only, since that takes long and there are many files.
func (s *surveyor) small(name string, content []byte) {
	switch {
	case slices.Contains([]int{16, 20, 28, 32, 48, 64}, len(content)):
		s.note(content)
	case path.Base(name) == "index":
		for _, id := range gitindex.IDs(content) {
			s.note(id)
		}
	case bytes.HasPrefix(content, []byte("#!")) || s.brought && slices.Contains([]string{"", ".sh"}, path.Ext(name)) && !bytes.Contains(content, []byte{0}):
		named := slices.DeleteFunc(paths(string(content)), func(p string) bool { return !rules.Concerns(p) })
		if len(named) == 0 {
			return
		}
		if s.Scripts == nil {
			s.Scripts = map[string][]string{}
		}
		s.Scripts[name] = named
		if s.brought && writes(content) && len(s.Texts)+len(content) <= maxTexts {
			s.Texts += string(content) + "\n"
		}
	}
}

// beside notes the file that a name with another ending belongs to.
func (s *surveyor) beside(name string) {
	if ext := path.Ext(name); slices.Contains(signatures, ext) {
		s.Signed = append(s.Signed, strings.TrimSuffix(name, ext))
	}
	for i := len(name) - 1; i > 0 && name[i] != '/'; i-- {
		if name[i] == '.' && rules.Archive(name[:i]) {
			s.Signed = append(s.Signed, name[:i])
		}
	}
}

// words notes the digests in a path.
func (s *surveyor) words(name string) {
	for part := range strings.SplitSeq(name, "/") {
		_, _ = s.Write([]byte(part + "\n"))
	}
}

// link notes the target of a symbolic link, unless a rule drops the link itself.
func (s *surveyor) link(name, target string) {
	if !strings.HasPrefix(target, "/") {
		target = path.Join("/", path.Dir(name), target)
	}
	if target = layer.Clean(target); rules.Concerns(target) && !rules.Loses(name) {
		s.Named = append(s.Named, target)
	}
}

// onlyWriter hides other methods, so that io.CopyBuffer uses the buffer it is given.
type onlyWriter struct{ io.Writer }

// inDigest are the characters of digests in hexadecimal and both kinds of base64.
var inDigest = func() (in [256]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_" {
		in[c] = true
	}
	return in
}()

// Lengths of digests in characters: the shortest, MD5 in base64, and more than the longest, SHA-512 in hexadecimal
// with its name.
const minDigest, maxDigest = 22, 160

// Write takes a part of a file. It skips from one character that may be in a digest to the next, as far as the
// shortest digest is long.
func (s *surveyor) Write(p []byte) (int, error) {
	n := len(p)
	if len(s.run) > 0 {
		end := 0
		for end < len(p) && inDigest[p[end]] {
			end++
		}
		s.run = append(s.run, p[:min(end, maxDigest)]...)
		if end == len(p) {
			s.run = s.run[:min(len(s.run), maxDigest+1)]
			return n, nil
		}
		s.flush()
		p = p[end:]
	}
	for i := 0; i < len(p); {
		probe := i + minDigest - 1
		if probe >= len(p) {
			probe = len(p) - 1
		}
		if !inDigest[p[probe]] {
			i = probe + 1
			continue
		}
		start, end := probe, probe+1
		for start > i && inDigest[p[start-1]] {
			start--
		}
		for end < len(p) && inDigest[p[end]] {
			end++
		}
		if end == len(p) {
			s.run = append(s.run[:0], p[start:min(end, start+maxDigest+1)]...)
			return n, nil
		}
		s.take(p[start:end])
		i = end + 1
	}
	return n, nil
}

func (s *surveyor) flush() {
	s.take(s.run)
	s.run = s.run[:0]
}

var digestName = regexp.MustCompile(`^(?:md5|sha\d{1,3})[-_]`)

// take notes the digests in a run of characters.
func (s *surveyor) take(run []byte) {
	if len(run) < minDigest || len(run) > maxDigest {
		return
	}
	text := string(run)
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", r) }) {
		if slices.Contains([]int{32, 40, 56, 64, 96, 128}, len(part)) {
			if sum, err := hex.DecodeString(part); err == nil {
				s.note(sum)
			}
		}
	}
	text = digestName.ReplaceAllString(text, "")
	if slices.Contains([]int{22, 27, 43, 64, 86}, len(text)) {
		if sum, err := base64.RawStdEncoding.DecodeString(strings.NewReplacer("-", "+", "_", "/").Replace(text)); err == nil {
			s.note(sum)
		}
	}
}

func (s *surveyor) note(sum []byte) {
	n := binary.BigEndian.Uint64(sum)
	if _, ok := s.seen[n]; !ok && len(s.seen) < maxDigests {
		s.seen[n] = struct{}{}
	}
}

// sort ends the survey.
func (s *surveyor) sort() {
	slices.Sort(s.Named)
	for _, n := range slices.Sorted(maps.Keys(s.seen)) {
		s.Digests = binary.BigEndian.AppendUint64(s.Digests, n)
	}
}

// maxDigests bounds a survey, which is in memory.
const maxDigests = 4_000_000

// absolute is a path in a value of a configuration.
var absolute = regexp.MustCompile(`/[^\s:;,="'<>|&()]+`)

// settings is what a configuration says about paths.
type settings struct {
	named, volumes []string // without a slash before them; volumes are sorted
	text           string   // its variables and commands
	commands       []string // the words of its commands
	dir            string
}

// inHome is the beginning of a path in the home folder.
var inHome = regexp.MustCompile(`(?:~|\$HOME|\$\{HOME\})/`)

// paths returns the paths in a text, without a slash before them. Those in the home folder count for root, and for all
// who have one in /home.
func paths(text string) []string {
	var found []string
	for _, p := range absolute.FindAllString(inHome.ReplaceAllString(text, " /root/"), -1) {
		found = append(found, layer.Clean(p))
	}
	return found
}

// settings reads the configuration of an image. What onbuild and labels name counts like the commands.
func (c *config) settings() settings {
	fields, _ := c.fields["config"].(map[string]any)
	var s settings
	s.dir, _ = fields["WorkingDir"].(string)
	home := "root"
	if user, _ := fields["User"].(string); user != "" {
		user, _, _ = strings.Cut(user, ":")
		home = path.Join("home", user)
	}
	note := func(v any) {
		text, _ := v.(string)
		s.text += text + "\n"
		for _, p := range paths(text) {
			s.named = append(s.named, p)
			if rest, ok := strings.CutPrefix(p, "root/"); ok {
				s.named = append(s.named, path.Join(home, rest))
			}
		}
	}
	list := func(v any) []any {
		values, _ := v.([]any)
		return values
	}
	note(s.dir)
	for _, v := range list(fields["Env"]) {
		note(v)
	}
	health, _ := fields["Healthcheck"].(map[string]any)
	for _, v := range slices.Concat(list(fields["Entrypoint"]), list(fields["Cmd"]), list(health["Test"]), list(fields["OnBuild"])) {
		note(v)
		text, _ := v.(string)
		s.commands = append(s.commands, strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\n;&|\"'()<>", r) })...)
	}
	for _, word := range s.commands {
		if !strings.HasPrefix(word, "/") {
			s.named = append(s.named, layer.Clean(path.Join(s.dir, word)))
		}
	}
	labels, _ := fields["Labels"].(map[string]any)
	for _, v := range labels {
		text, _ := v.(string)
		s.named = append(s.named, paths(text)...)
	}
	volumes, _ := fields["Volumes"].(map[string]any)
	for p := range volumes {
		s.volumes = append(s.volumes, layer.Clean(p))
	}
	slices.Sort(s.volumes)
	return s
}

// runs reports whether the commands name a program by its path, its path in the working folder, or its name alone.
func (s settings) runs(program string) bool {
	return slices.ContainsFunc(s.commands, func(word string) bool {
		if !strings.Contains(word, "/") {
			return word == path.Base(program)
		}
		if !strings.HasPrefix(word, "/") {
			word = path.Join("/", s.dir, word)
		}
		return layer.Clean(word) == program
	})
}
