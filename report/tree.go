package report

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// maxDepth limits how deeply folders nest, because browsers flatten elements that nest too deeply. A deeper path
// becomes part of the file's name.
const maxDepth = 16

// node is a folder of a tree under construction.
type node struct {
	folders map[string]*node
	leaves  []leaf
}

type leaf struct {
	name string
	file *File
}

// folder is a folder of the finished tree.
type folder struct {
	Name    text
	Open    bool
	Folders []*folder
	Files   []*file

	Changed, Added, Removed int // below it
}

// Total returns how many files there are below f.
func (f *folder) Total() int { return f.Changed + f.Added + f.Removed }

// plant builds the tree of files.
func plant(files []*File) *node {
	root := &node{}
	for _, f := range files {
		parts := strings.FieldsFunc(f.Path, func(r rune) bool { return r == '/' })
		if len(parts) == 0 {
			parts = []string{"/"}
		}
		n, depth := root, min(len(parts)-1, maxDepth)
		for _, part := range parts[:depth] {
			if n.folders[part] == nil {
				if n.folders == nil {
					n.folders = map[string]*node{}
				}
				n.folders[part] = &node{}
			}
			n = n.folders[part]
		}
		n.leaves = append(n.leaves, leaf{strings.Join(parts[depth:], "/"), f})
	}
	root.settle()
	return root
}

// settle sorts the leaves. A folder that differs itself, for example in its mode, becomes a leaf within it.
func (n *node) settle() {
	n.leaves = slices.DeleteFunc(n.leaves, func(l leaf) bool {
		below := n.folders[l.name]
		if below != nil {
			below.leaves = append(below.leaves, leaf{"./", l.file})
		}
		return below != nil
	})
	slices.SortStableFunc(n.leaves, func(a, b leaf) int { return cmp.Compare(a.name, b.name) })
	for _, below := range n.folders {
		below.settle()
	}
}

// grow turns n into a folder with its folders first. A folder that holds nothing but another folder is joined
// with that one. Show returns the view of a file, or nil for a file that is only counted.
func (n *node) grow(name string, open bool, show func(leaf) *file) *folder {
	f := &folder{Name: visible(name, maxName), Open: open}
	for _, key := range slices.Sorted(maps.Keys(n.folders)) {
		below, path := n.folders[key], key+"/"
		for len(below.leaves) == 0 && len(below.folders) == 1 {
			for only, next := range below.folders {
				below, path = next, path+only+"/"
			}
		}
		sub := below.grow(path, open, show)
		f.Changed, f.Added, f.Removed = f.Changed+sub.Changed, f.Added+sub.Added, f.Removed+sub.Removed
		if len(sub.Folders)+len(sub.Files) > 0 {
			f.Folders = append(f.Folders, sub)
		}
	}
	for _, l := range n.leaves {
		switch l.file.Change {
		case Added:
			f.Added++
		case Removed:
			f.Removed++
		default:
			f.Changed++
		}
		if v := show(l); v != nil {
			f.Files = append(f.Files, v)
		}
	}
	return f
}
