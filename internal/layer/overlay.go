package layer

import (
	"archive/tar"
	"fmt"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
)

// Names of whiteouts (https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#whiteouts).
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = whiteoutPrefix + whiteoutPrefix
	opaqueName     = metaPrefix + ".opq"
)

// A Whiteout is an entry of a layer that hides what lower layers have. It never hides what its own layer
// has, wherever in that layer it stands.
type Whiteout struct {
	// Path is the hidden path, with everything below it. It is empty for the marks of AUFS (.wh..wh.*),
	// which hide nothing.
	Path string
	// Opaque hides everything below Path, which may be the root, but not Path itself.
	Opaque bool
}

// ParseWhiteout returns the whiteout with the name of an entry, as Clean returns it, if it is one.
func ParseWhiteout(name string) (Whiteout, bool) {
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	hidden, ok := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case !ok:
		return Whiteout{}, false
	case base == opaqueName:
		return Whiteout{dir, true}, true
	case strings.HasPrefix(base, metaPrefix), hidden == "", hidden == ".", hidden == "..": // Next refuses the last three
		return Whiteout{}, true
	default:
		return Whiteout{Path: path.Join(dir, hidden)}, true
	}
}

// An Overlay is the file system that layers result in, the lowest first. T describes an entry. To apply a
// layer, call Hide for each of its whiteouts and then Add for each other entry. The zero value is an empty
// root.
//
// Like in containerd and Docker, symbolic links in the path of an entry are followed. No path leads out of
// the root.
type Overlay[T any] struct {
	// Implied returns the entry of a folder that no layer names. Nil stands for the zero value.
	Implied func() T

	root    *Node[T]
	implied int
}

// A Node is a name in an Overlay.
type Node[T any] struct {
	Kind byte   // the tar type of File, never TypeLink
	Link string // the target of a symbolic link
	// Entry is the entry with this name. For a hard link, File is the entry with the name that it links
	// to; else File is Entry.
	Entry, File T
	Children    map[string]*Node[T] // nil for all but folders
}

// A PathError says why a path cannot be part of a file system.
type PathError struct {
	Path   string // without slashes around it
	Reason string
}

func (e *PathError) Error() string { return fmt.Sprintf("%q: %s", "/"+e.Path, e.Reason) }

// maxLinks is how many symbolic links Linux follows in one path.
const maxLinks = 40

// Root returns the root folder.
func (o *Overlay[T]) Root() *Node[T] {
	if o.root == nil {
		o.root = o.folder()
	}
	return o.root
}

func (o *Overlay[T]) folder() *Node[T] {
	n := &Node[T]{Kind: tar.TypeDir, Children: map[string]*Node[T]{}}
	if o.Implied != nil {
		n.Entry = o.Implied()
		n.File = n.Entry
	}
	return n
}

// Lookup returns the node with a path, nil if there is none. It follows no symbolic link.
func (o *Overlay[T]) Lookup(name string) *Node[T] {
	n := o.Root()
	for name != "" && n != nil {
		var part string
		part, name, _ = strings.Cut(name, "/")
		n = n.Children[part]
	}
	return n
}

// Hide applies a whiteout and reports whether it hid anything.
func (o *Overlay[T]) Hide(w Whiteout) bool {
	if w.Opaque {
		n, err := o.follow(w.Path, false)
		if err != nil || len(n.Children) == 0 {
			return false
		}
		n.Children = map[string]*Node[T]{}
		return true
	}
	dir, base := path.Split(w.Path)
	n, err := o.follow(dir, false)
	if err != nil || n.Children[base] == nil {
		return false
	}
	delete(n.Children, base)
	return true
}

// Add adds an entry of a layer. A folder over a folder keeps its children; any other entry replaces the
// one before. The error is a *PathError if a parent of the path is not a folder, or if a hard link has no
// target. Then nothing changes.
func (o *Overlay[T]) Add(name string, kind byte, link string, v T) error {
	if name == "" {
		if kind == tar.TypeDir {
			o.Root().Entry, o.Root().File = v, v
		}
		return nil
	}
	next := &Node[T]{Kind: kind, Entry: v, File: v}
	if kind == tar.TypeLink {
		target, err := o.linked(Clean(link))
		if err != nil {
			return &PathError{name, fmt.Sprintf("it is a hard link to %q, which is not there", "/"+Clean(link))}
		}
		next.Kind, next.Link, next.File = target.Kind, target.Link, target.File
	}
	dir, base := path.Split(name)
	at, err := o.follow(dir, true)
	if err != nil {
		return err
	}
	if at.Kind != tar.TypeDir {
		return &PathError{name, "its parent is not a folder"}
	}
	switch kind {
	case tar.TypeSymlink:
		next.Link = link
	case tar.TypeDir:
		next.Children = map[string]*Node[T]{}
		if have := at.Children[base]; have != nil && have.Kind == tar.TypeDir {
			next.Children = have.Children
		}
	}
	at.Children[base] = next
	return nil
}

// linked returns the target of a hard link. Symbolic links lead to its folder, and not to it.
func (o *Overlay[T]) linked(name string) (*Node[T], error) {
	dir, base := path.Split(name)
	n, err := o.follow(dir, false)
	if err != nil {
		return nil, err
	}
	if n = n.Children[base]; n == nil || n.Kind == tar.TypeDir {
		return nil, &PathError{name, "it is no file"}
	}
	return n, nil
}

// Follow returns the node that a path leads to, through all symbolic links. The error is a *PathError.
func (o *Overlay[T]) Follow(name string) (*Node[T], error) { return o.follow(name, false) }

// follow resolves a path like a process in the root. If implied is set, it adds missing folders.
func (o *Overlay[T]) follow(name string, implied bool) (*Node[T], error) {
	stack, rest, links := []*Node[T]{o.Root()}, name, 0
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		at := stack[len(stack)-1]
		switch part {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		next := at.Children[part]
		if next == nil {
			if !implied || at.Kind != tar.TypeDir {
				return nil, &PathError{Clean(name), "there is no such folder in the image"}
			}
			if o.implied++; o.implied > maxEntries {
				return nil, ErrTooLarge
			}
			next = o.folder()
			at.Children[part] = next
		}
		if next.Kind == tar.TypeSymlink {
			if links++; links > maxLinks || len(next.Link)+len(rest) >= 2*maxPath {
				return nil, &PathError{Clean(name), "too many symbolic links"}
			}
			if strings.HasPrefix(next.Link, "/") {
				stack = stack[:1]
			}
			rest = next.Link + "/" + rest
			continue
		}
		if stack = append(stack, next); len(stack) > maxPath {
			return nil, &PathError{Clean(name), "too deep"}
		}
	}
	return stack[len(stack)-1], nil
}

// All returns the nodes below n and their paths relative to n, sorted, with each folder before its
// children.
func (n *Node[T]) All() iter.Seq2[string, *Node[T]] {
	return func(yield func(string, *Node[T]) bool) { n.walk("", yield) }
}

func (n *Node[T]) walk(at string, yield func(string, *Node[T]) bool) bool {
	for _, name := range slices.Sorted(maps.Keys(n.Children)) {
		c, full := n.Children[name], path.Join(at, name)
		if !yield(full, c) || !c.walk(full, yield) {
			return false
		}
	}
	return true
}
