package rules

import (
	"archive/tar"
	"strings"
	"time"

	"github.com/kedge-build/kedge/internal/layer"
)

// A form is one thing that is done to the header of every entry of a new layer, with its reason.
// Forms run in order and cannot be switched off; Markdown documents them.
type form struct {
	id   string // lower-case words with dashes; never reused for something else
	what string // what happens, one sentence
	why  string // why it may happen, one sentence
	link string // where the format or the cause is described

	// apply changes the header in place, and reports whether the entry stays in the layer.
	apply func(h *tar.Header, epoch time.Time) (keep bool)
}

const (
	paxSpec       = "https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html"
	layerSpec     = "https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md"
	sourceDateURL = "https://reproducible-builds.org/specs/source-date-epoch/"
)

const xattrPrefix = "SCHILY.xattr." // of the PAX records of extended attributes

var forms = []form{
	{
		id:   "global-header",
		what: "PAX global headers are dropped.",
		why:  "They describe the archive, not a file, and image runtimes ignore them.",
		link: paxSpec,
		apply: func(h *tar.Header, _ time.Time) bool {
			return h.Typeflag != tar.TypeXGlobalHeader
		},
	},
	{
		id:   "entry-form",
		what: "Every kind of entry is written in one form: regular files with type 0 (sparse ones in full), directories with a trailing slash, only permission, setuid, setgid and sticky bits in the mode, device numbers only on devices, link targets only on links.",
		why:  "Tar can say the same thing in several ways; which one it is depends on the program that wrote it.",
		link: layerSpec,
		apply: func(h *tar.Header, _ time.Time) bool {
			switch h.Typeflag {
			case tar.TypeCont, tar.TypeGNUSparse:
				h.Typeflag = tar.TypeReg
			case tar.TypeDir:
				if !strings.HasSuffix(h.Name, "/") {
					h.Name += "/"
				}
			}
			h.Mode &= 0o7777
			if h.Typeflag != tar.TypeChar && h.Typeflag != tar.TypeBlock {
				h.Devmajor, h.Devminor = 0, 0
			}
			if h.Typeflag != tar.TypeLink && h.Typeflag != tar.TypeSymlink {
				h.Linkname = ""
			}
			return true
		},
	},
	{
		id:   "owner-names",
		what: "User and group names are dropped; the numeric owner stays.",
		why:  "Names come from the machine that wrote the archive, and runtimes go by the numbers.",
		link: layerSpec,
		apply: func(h *tar.Header, _ time.Time) bool {
			h.Uname, h.Gname = "", ""
			return true
		},
	},
	{
		id:   "pax-records",
		what: "Of the PAX records only extended attributes (SCHILY.xattr.*) stay, and those that a long name, a large number or an early time needs.",
		why:  "All others repeat the header or belong to the program that wrote the archive.",
		link: paxSpec,
		apply: func(h *tar.Header, _ time.Time) bool {
			// The older name of the same attributes; the writer refuses both at once.
			h.Xattrs = nil //nolint:staticcheck // it must be cleared because the reader fills it
			for k := range h.PAXRecords {
				if !strings.HasPrefix(k, xattrPrefix) {
					delete(h.PAXRecords, k)
				}
			}
			h.Format = tar.FormatPAX
			return true
		},
	},
	{
		id:   "access-change-time",
		what: "Access and inode change times are dropped.",
		why:  "They say when the build ran, and no runtime restores them.",
		link: layerSpec,
		apply: func(h *tar.Header, _ time.Time) bool {
			h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
			return true
		},
	},
	{
		id:   "whiteout-time",
		what: "Whiteouts (.wh.*) carry the epoch.",
		why:  "A whiteout has no file behind it: its time is when the layer was compared.",
		link: layerSpec + "#whiteouts",
		apply: func(h *tar.Header, epoch time.Time) bool {
			if _, ok := layer.ParseWhiteout(layer.Clean(h.Name)); ok {
				h.ModTime = epoch
			}
			return true
		},
	},
	{
		id:   "mtime-clamp",
		what: "Modification times after the epoch become the epoch; earlier ones stay, in whole seconds.",
		why:  "Files that the build wrote carry the time of the build; files that it unpacked carry their own, which is content.",
		link: sourceDateURL,
		apply: func(h *tar.Header, epoch time.Time) bool {
			if h.ModTime.After(epoch) {
				h.ModTime = epoch
			}
			h.ModTime = time.Unix(h.ModTime.Unix(), 0)
			return true
		},
	},
}

// Canonicalise gives the header of an entry its one form, with no time after the epoch, and reports whether the
// entry stays in the layer.
func Canonicalise(h *tar.Header, epoch time.Time) (keep bool) {
	for _, f := range forms {
		if !f.apply(h, epoch) {
			return false
		}
	}
	return true
}
