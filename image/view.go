package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
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
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
)

// A view is what rules need to know of a whole image: the paths that it names, and the digests that stand in it.
type view struct {
	named, volumes []string // sorted, without a slash before them
	signed         []string // files with a detached signature, without a slash before them
	words          []string // that the Dockerfile and its arguments name, of rules.Words
	asked          []string // ids of rules; see rules.Asked
	texts          string   // of scripts that COPY and ADD brought; see survey
	digests        [][]byte // of each layer; see survey
	kinds          kindSet  // of the digests
	summed         []string // names that stand beside a number, sorted; see survey
	days           []int64  // on which RUNs of the layers so far ran
}

// A survey is what one layer adds to the view of its image. Fields are exported for encoding/gob.
type survey struct {
	// Named are the targets of symbolic links that rules must know, sorted.
	Named []string
	// Signed are the files beside which there is one with their name and another ending, such as a detached signature, and
	// what signatures are called without theirs.
	Signed []string
	// Scripts are what rules must know of short scripts, by the path of the script.
	Scripts map[string]script
	// Asked are the ids of rules that scripts of a layer that COPY or ADD brought ask for.
	Asked []string
	// Links are the targets of symbolic links to folders above the files of rules, by the path of the link.
	Links map[string]string
	// Summed are the names of archives that stand in a line with a number, such as a checksum, sorted.
	Summed []string
	// Texts are those of short scripts, of a layer that COPY or ADD brought, that name such a path.
	Texts string
	// Digests are the first eight bytes of everything in the files that looks like a digest, sorted, and Kinds what they are.
	Digests []byte
	Kinds   kindSet
}

// A script is a text that may be run.
type script struct {
	Named []string // paths
	Asked []string // ids of rules
}

// surveyed returns the survey of a layer that the store keeps under an id, or that scan makes. brought says that COPY or
// ADD brought its files from outside.
func (in *Ingest) surveyed(layer digest.Digest, brought bool, scan func(*surveyor) error) (survey, error) {
	var s survey
	id := digest.FromString(fmt.Sprintf("survey 7 %v %s", brought, layer))
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
	links := map[string]string{}
	text := &surveyor{seen: map[uint64]struct{}{}}
	_, _ = text.Write([]byte(e.Text + "\n"))
	for _, d := range e.Downloads {
		_, _ = text.Write([]byte(d.Encoded() + "\n"))
	}
	text.sort()
	v.digests, v.kinds = append(v.digests, text.Digests), text.Kinds
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
		v.asked = append(v.asked, s.Asked...)
		v.texts += s.Texts
		for name, script := range s.Scripts {
			if settings.runs(name) {
				v.named = append(v.named, script.Named...)
				v.asked = append(v.asked, script.Asked...)
			}
		}
		maps.Copy(links, s.Links)
		v.summed = append(v.summed, s.Summed...)
		v.signed = append(v.signed, s.Signed...)
		v.digests, v.kinds = append(v.digests, s.Digests), v.kinds|s.Kinds
	}
	if missing != nil {
		return nil, missing
	}
	for _, name := range settings.volumes {
		v.volumes = append(v.volumes, resolved([]string{name + "/."}, links)[1:]...) // which may be a link itself
	}
	v.named = slices.DeleteFunc(resolved(v.named, links), func(name string) bool { return !rules.Concerns(name) })
	v.named = append(v.named, losable(resolved(mentioned(reading.ReplaceAllString(joined(e.Text), "")), links))...)
	for _, list := range []*[]string{&v.named, &v.asked, &v.summed} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return v, nil
}

// maxLinks bounds the symbolic links in a path.
const maxLinks = 40

// resolved returns paths, and where symbolic links to folders lead those of them.
func resolved(paths []string, links map[string]string) []string {
	all := slices.Clone(paths)
	for _, p := range paths {
		for range maxLinks {
			folder, target := parent(p), ""
			for ; folder != ""; folder = parent(folder) {
				if target = links[folder]; target != "" {
					break
				}
			}
			if target == "" {
				break
			}
			p = layer.Clean(target + p[len(folder):])
			all = append(all, p)
		}
	}
	return all
}

// mentioned returns the paths in a text but for those that it removes or empties, and the files of rules that it names
// by a pattern or by their name alone.
func mentioned(text string) []string {
	text = removal.ReplaceAllString(joined(text), "")
	found := append(paths(text), rules.ByName(text)...)
	for _, p := range found {
		if strings.ContainsAny(p, "*?[") {
			found = append(found, rules.Picked(p)...)
		}
	}
	return found
}

// joined returns a text without comments, and with its continued lines in one.
func joined(text string) string {
	return strings.ReplaceAll(comment.ReplaceAllString(text, ""), "\\\n", " ")
}

// comment is a line with its end, since a comment does not end a continued line.
var comment = regexp.MustCompile(`(?m)^[ \t]*#.*\n?`)

// reading is a command that only reads what it names, makes a folder, or a redirection: with such a build checks what a tool
// did, or stands in for it.
var reading = regexp.MustCompile(`(?:\b(?:test|e?grep|cat|ls|head|tail|wc|stat|file|find|strings|xxd|od|cmp|diff)\s|\[\s|\bmkdir\s+(?:-p\s+)?/)[^;&|\n>]*|>\s*\S+`)

// removal is a mount, or a command that removes or empties what it names.
var removal = regexp.MustCompile(`--mount=\S+|\b(?:rm|unlink|shred|truncate)\b[^;&|\n]*|(?:\btrue|\B:|\becho -n|\bcat /dev/null)\s*>\s*\S+`)

// losable returns those of some paths that a rule may drop or empty.
func losable(paths []string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return !rules.Loses(p) })
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

// Beginnings of the keys of an archive that may have a signature beside it, and of one whose name may stand beside a number.
const signedKey, summedKey = "signed ", "summed "

// held reports whether a digest of a file stands in the image, or a signature beside the file.
func (v *view) held(key string) bool {
	if name, ok := strings.CutPrefix(key, summedKey); ok {
		_, found := slices.BinarySearch(v.summed, name)
		return found
	}
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
	_, sums, _ := readKey(key)
	for ; len(sums) >= 8; sums = sums[8:] {
		if v.has(sums) {
			return true
		}
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
		for _, value := range layer.Xattrs(h) {
			s.words(value)
		}
		switch {
		case h.Typeflag == tar.TypeSymlink:
			s.words(h.Linkname)
			s.link(name, h.Linkname)
		case h.Typeflag == tar.TypeReg && !slices.Contains(ownIDs, name):
			s.beside(name)
			s.run = s.run[:0]
			head := buf[:min(h.Size, int64(len(buf)))]
			if h.Size > int64(len(buf)) && path.Base(name) == "index" && h.Size <= rules.MaxRead {
				head = make([]byte, h.Size)
			}
			if _, err := io.ReadFull(r, head); err != nil {
				return fmt.Errorf("read layer: entry %q: %w", h.Name, err)
			}
			if int64(len(head)) == h.Size {
				s.small(name, head)
				s.unpack(name, head)
			}
			var rest io.Writer = onlyWriter{s}
			var sum hash.Hash
			if isRenamed(name, head) {
				sum = sha256.New()
				rest = io.MultiWriter(s, sum)
			}
			_, _ = rest.Write(head)
			if _, err := io.CopyBuffer(rest, onlyReader{r}, buf); err != nil {
				return fmt.Errorf("read layer: entry %q: %w", h.Name, err)
			}
			s.flush()
			if sum != nil {
				s.note(sum.Sum(nil))
			}
		}
	}
}

// isRenamed reports whether a file may be the copy of one that a rule changes, under a name that no rule knows: a copy must
// stay equal.
func isRenamed(name string, head []byte) bool {
	return slices.ContainsFunc([]string{"\x1f\x8b\x08", "PK\x03\x04", "\xfe\xed\xfe\xed"}, func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }) && !rules.Known(name)
}

// maxTexts bounds the texts of a layer.
const maxTexts = 256 << 10

// writes reports whether a script may write files.
func writes(content []byte) bool {
	return hasOne(content, []string{"echo ", "printf ", "<<"})
}

// small notes what a small file says as a whole: a digest in binary, the files of a git index, what a text says.
func (s *surveyor) small(name string, content []byte) {
	if slices.ContainsFunc(content[:min(len(content), sha512.Size)], func(b byte) bool { return b >= 0x80 }) && kindOf(len(content)) != 0 {
		s.note(content)
	}
	if path.Base(name) == "index" {
		for _, id := range gitindex.IDs(content) {
			s.note(id)
		}
	}
	if bytes.IndexByte(content, 0) < 0 {
		s.text(name, content)
	}
}

// maxUnpacked is how much of a small compressed file is searched, in bytes.
const maxUnpacked = 1 << 20

// unpack notes the digests in a list that is compressed. Packages have documents, and no lists, in /usr/share.
func (s *surveyor) unpack(name string, content []byte) {
	if !bytes.HasPrefix(content, []byte("\x1f\x8b\x08")) || strings.HasPrefix(name, "usr/share/") {
		return
	}
	r, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return
	}
	list, _ := io.ReadAll(io.LimitReader(r, maxUnpacked)) // as far as it can be read
	s.sums(name, list)
	_, _ = s.Write(list)
	s.flush()
}

// text notes what rules must know of a small text: the archives in it, and the paths and words if it is a script or if COPY
// or ADD brought it.
func (s *surveyor) text(name string, content []byte) {
	s.sums(name, content)
	runs := bytes.HasPrefix(content, []byte("#!")) || s.brought && slices.Contains([]string{"", ".sh"}, path.Ext(name))
	var found script
	var places []string
	if runs && hasOne(content, askWords) {
		found.Asked = rules.AskedByScript(string(content))
	}
	if (runs || s.brought) && hasOne(content, placeWords) {
		places = append(paths(withPlaces(content)), rules.ByName(string(content))...)
		found.Named = slices.DeleteFunc(slices.Clone(places), func(p string) bool { return !rules.Concerns(p) })
	}
	if len(found.Named)+len(found.Asked) == 0 {
		return
	}
	if s.Scripts == nil {
		s.Scripts = map[string]script{}
	}
	s.Scripts[name] = found
	if !s.brought {
		return
	}
	s.Asked = append(s.Asked, found.Asked...)
	if len(s.Named) < maxNamed && slices.ContainsFunc(places, func(p string) bool { return rules.Loses(p) || strings.ContainsAny(p, "*?[") }) {
		s.Named = append(s.Named, losable(mentioned(string(content)))...)
	}
	if runs && len(found.Named) > 0 && writes(content) && len(s.Texts)+len(content) <= maxTexts {
		s.Texts += string(content) + "\n"
	}
}

// maxNamed bounds the paths that the texts of a layer name.
const maxNamed = 1000

// Parts of what a text must have so that it may name a file of a rule, ask for what one would drop, or name an archive.
var (
	placeWords = []string{
		"/log", "/tmp/", "var/cache", ".cache", "/lib/dpkg", "/lib/apt", "/lib/systemd", "/lib/dbus", "/lib/rabbitmq", "fontconfig", "fonts/", "random-seed", "utmp", ".npm/", ".wget-hsts", ".lesshst", ".viminfo",
		".cargo", ".gem/", "/gem/", ".bundle", ".ccache", ".gradle", ".cpan", ".config/go", ".erlang.cookie", "config.log", "CMakeFiles", "extensions/", "doctrees", "autom4te", ".fingerprint",
	}
	askWords = []string{
		"gpg", "openssl", "ssh-keygen", "minisign", "signify", "cosign", "signer", "cksum", "b3sum", "xxh", "rhash", "crc32", "cfv", "sha3sum", "par2", "zsyncmake", "xdelta", "bsdiff", "rdiff", "torrent",
		"mandb", "catman", "whatis", "apropos", "man -", "ompile_cache", "ompile-cache", "ompileCache", "ompilecache", "OMPILE_CACHE", ".erlang.cookie",
	}
	archived = []string{".gz", ".tgz", ".svgz", ".zip", ".jar", ".war", ".ear", ".whl", ".egg", ".epub", ".docx", ".odt", ".xlsx", ".ods"}
)

func hasOne(content []byte, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return bytes.Contains(content, []byte(w)) })
}

// withPlaces returns the lines of a text that may name a file of a rule.
func withPlaces(text []byte) string {
	var b strings.Builder
	for line := range bytes.Lines(text) {
		if hasOne(line, placeWords) {
			b.Write(line)
		}
	}
	return b.String()
}

// number is one that may be a checksum or a size.
var number = regexp.MustCompile(`\b(?:\d{4,}|[0-9a-f]{8,}|[0-9A-F]{8,})\b`)

// sums notes the archives in the lines of a text that have a number. Package managers' own lists are of digests.
func (s *surveyor) sums(name string, content []byte) {
	if strings.HasPrefix(name, "var/lib/dpkg/info/") || !hasOne(content, archived) {
		return
	}
	for line := range bytes.Lines(content) {
		for _, m := range archiveName.FindAllIndex(line, -1) {
			if number.Match(line[:m[0]]) || number.Match(line[m[1]:]) {
				s.Summed = append(s.Summed, string(line[m[0]:m[1]]))
			}
		}
	}
}

// archiveName is the name of a file that may be an archive.
var archiveName = regexp.MustCompile(`[^\s/:;,="'<>|&()*\\]+\.(?:gz|tgz|svgz|zip|[jwe]ar|whl|egg|epub|docx|odt|xlsx|ods)\b`)

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
	target = layer.Clean(target)
	if rules.Concerns(target) && !rules.Loses(name) {
		s.Named = append(s.Named, target)
	}
	if rules.Leads(target) {
		if s.Links == nil {
			s.Links = map[string]string{}
		}
		s.Links[name] = target
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
		if len(part)%2 == 0 && kindOf(len(part)/2) != 0 {
			if sum, err := hex.DecodeString(part); err == nil {
				s.note(sum)
			}
		}
	}
	text = digestName.ReplaceAllString(text, "")
	if len(strings.Trim(text, "0123456789abcdef")) == 0 {
		return
	}
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
	s.Kinds |= kindOf(len(sum))
}

// sort ends the survey.
func (s *surveyor) sort() {
	slices.Sort(s.Named)
	s.Named = slices.Compact(s.Named)
	slices.Sort(s.Summed)
	s.Summed = slices.Compact(s.Summed)
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

// paths returns the paths in a text, without a slash before them. Those in the home folder begin with ~ and count for all
// who have one.
func paths(text string) []string {
	var found []string
	for _, p := range absolute.FindAllString(inHome.ReplaceAllString(text, " /~/"), -1) {
		found = append(found, layer.Clean(p))
	}
	return found
}

// settings reads the configuration of an image. What onbuild and labels name counts like the commands.
func (c *config) settings() settings {
	fields, _ := c.fields["config"].(map[string]any)
	var s settings
	s.dir, _ = fields["WorkingDir"].(string)
	variables := strings.NewReplacer()
	note := func(v any) string {
		text, _ := v.(string)
		text = variables.Replace(text)
		s.text += text + "\n"
		s.named = append(s.named, mentioned(text)...)
		return text
	}
	list := func(v any) []any {
		values, _ := v.([]any)
		return values
	}
	note(s.dir)
	values := map[string]string{}
	for _, v := range list(fields["Env"]) {
		name, value, _ := strings.Cut(note(v), "=")
		values[name] = value
	}
	var pairs []string
	names := slices.SortedFunc(maps.Keys(values), func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	for _, name := range names {
		pairs = append(pairs, "${"+name+"}", values[name], "$"+name, values[name])
	}
	variables = strings.NewReplacer(pairs...)
	health, _ := fields["Healthcheck"].(map[string]any)
	for _, v := range slices.Concat(list(fields["Entrypoint"]), list(fields["Cmd"]), list(health["Test"]), list(fields["OnBuild"])) {
		text := note(v)
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
