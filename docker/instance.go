package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The drivers that kedge connects to itself. docker buildx connects to the others.
const (
	driverRemote    = "remote"
	driverContainer = "docker-container"
	driverDocker    = "docker"
)

// Builder is a builder of docker buildx ls.
type Builder struct {
	Name   string
	Driver string // "docker" if the name is that of a context
	Nodes  []Node // at least one
}

// Node is one machine of a builder.
type Node struct {
	Name       string
	Endpoint   string // a context or an address
	Platforms  []ocispec.Platform
	DriverOpts map[string]string
}

// NotFoundError says that there is no builder with the name.
type NotFoundError struct {
	Name  string
	Known []string // existing builders, sorted
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("no builder %q found", e.Name) }

// instanceName matches the names that buildx allows. It stores them in lower case.
var instanceName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9._-]*$`)

// maxInstance bounds the bytes of an instance file, which can contain certificates.
const maxInstance = 16 << 20

// Builder returns the builder with a name: an instance that docker buildx create made, or else a context.
// The error is a *FileError or a *NotFoundError.
func (c *Config) Builder(name string) (*Builder, error) {
	if instanceName.MatchString(name) {
		b, err := readInstance(filepath.Join(c.instances(), strings.ToLower(name)))
		if !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
	}
	if c.hasContext(name) {
		return &Builder{Name: name, Driver: driverDocker, Nodes: []Node{{Name: name, Endpoint: name}}}, nil
	}
	return nil, &NotFoundError{Name: name, Known: c.builders()}
}

// Used returns the builder that docker buildx use chose for the current context. It is empty if none was
// chosen, or if that one is gone.
func (c *Config) Used() string {
	ep, err := c.Endpoint("")
	if err != nil {
		return ""
	}
	key := ep.Context
	if key == defaultContext {
		key = ep.Host
	}
	var current struct {
		Key, Name string
		Global    bool
	}
	data, err := os.ReadFile(filepath.Join(c.buildx(), "current"))
	if err != nil || json.Unmarshal(data, &current) != nil || !current.Global && current.Key != key {
		sum := sha256.Sum256([]byte(key))
		data, err = os.ReadFile(filepath.Join(c.buildx(), "defaults", hex.EncodeToString(sum[:])[:20]))
		if err != nil {
			return ""
		}
		current.Name = strings.TrimSpace(string(data))
	}
	if !instanceName.MatchString(current.Name) {
		return ""
	}
	if _, err := os.Stat(filepath.Join(c.instances(), strings.ToLower(current.Name))); err != nil {
		return ""
	}
	return current.Name
}

// buildx returns the folder of buildx's files.
func (c *Config) buildx() string {
	if dir := c.env["BUILDX_CONFIG"]; dir != "" {
		return dir
	}
	return filepath.Join(c.dir, "buildx")
}

func (c *Config) instances() string { return filepath.Join(c.buildx(), "instances") }

// builders returns the names of all builders that can be read.
func (c *Config) builders() []string {
	names := []string{defaultContext}
	if list, err := c.contexts().List(); err == nil {
		for _, md := range list {
			names = append(names, md.Name)
		}
	}
	if list, err := os.ReadDir(c.instances()); err == nil {
		for _, entry := range list {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func readInstance(path string) (*Builder, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxInstance+1))
	if err == nil && len(data) > maxInstance {
		err = errors.New("larger than 16 MiB")
	}
	if err != nil {
		return nil, &FileError{Path: path, Err: err}
	}
	b, err := parseInstance(data)
	if err != nil {
		return nil, &FileError{Path: path, Err: err}
	}
	return b, nil
}

// parseInstance parses a builder in buildx's store (store.NodeGroup). It ignores fields that kedge does not
// need.
func parseInstance(data []byte) (*Builder, error) {
	var b Builder
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, err
	}
	if b.Name == "" {
		return nil, errors.New("it is no builder: it has no name")
	}
	if !instanceName.MatchString(b.Name) {
		return nil, fmt.Errorf("%q is no name for a builder", b.Name)
	}
	if len(b.Nodes) == 0 {
		return nil, fmt.Errorf("builder %q has no node", b.Name)
	}
	if b.Driver == "" {
		b.Driver = driverDocker
	}
	for _, n := range b.Nodes {
		if n.Name == "" || strings.ContainsAny(n.Name, "/?#%") {
			return nil, fmt.Errorf("builder %q: %q is no name for a node", b.Name, n.Name)
		}
		if n.Endpoint == "" && (b.Driver == driverRemote || b.Driver == driverContainer || b.Driver == driverDocker) {
			return nil, fmt.Errorf("builder %q: node %q has no endpoint", b.Name, n.Name)
		}
	}
	return &b, nil
}

// A Share is a node with the platforms that it builds; none stands for its own.
type Share struct {
	Node      Node
	Platforms []string
}

// Shares divides platforms among the nodes, as docker buildx does: each goes to the node that was created with it, or
// else to the one whose daemon suits it best, or else to the first. lists returns the platforms of a node's daemon. It
// is only called if they matter.
func (b *Builder) Shares(want []string, lists func(Node) ([]ocispec.Platform, error)) ([]Share, error) {
	if len(b.Nodes) == 1 || len(want) == 0 {
		return []Share{{b.Nodes[0], want}}, nil
	}
	if shares, ok := b.divide(want, platforms.OnlyStrict, make([][]ocispec.Platform, len(b.Nodes))); ok {
		return shares, nil
	}
	listed := make([][]ocispec.Platform, len(b.Nodes))
	for i, n := range b.Nodes {
		var err error
		if listed[i], err = lists(n); err != nil {
			return nil, err
		}
	}
	shares, _ := b.divide(want, platforms.Only, listed)
	return shares, nil
}

// divide is Shares for nodes with more platforms than they were created with. It reports whether each platform found
// its node.
func (b *Builder) divide(want []string, matcher func(ocispec.Platform) platforms.MatchComparer, more [][]ocispec.Platform) (shares []Share, all bool) {
	by := make([][]string, len(b.Nodes))
	all = true
	for _, name := range want {
		best, bestPlatform := -1, ocispec.Platform{}
		if p, err := platforms.Parse(name); err == nil { // else the builder says what is wrong with it
			for i, n := range b.Nodes {
				for _, have := range slices.Concat(n.Platforms, more[i]) {
					if m := matcher(have); m.Match(p) && (best < 0 || m.Less(p, bestPlatform)) {
						best, bestPlatform = i, have
					}
				}
			}
		}
		if best < 0 {
			best, all = 0, false
		}
		by[best] = append(by[best], name)
	}
	for i, names := range by {
		if len(names) > 0 {
			shares = append(shares, Share{b.Nodes[i], names})
		}
	}
	return shares, all
}

// remote returns the connection to a node of the remote driver. It refuses the options that buildx
// refuses.
func (n Node) remote() (*Connection, error) {
	conn := &Connection{Address: n.Endpoint}
	files := map[string]*string{"cacert": &conn.CACert, "cert": &conn.Cert, "key": &conn.Key}
	for option, value := range n.DriverOpts {
		switch option {
		case "servername":
			conn.ServerName = value
		case "cacert", "cert", "key":
			if !filepath.IsAbs(value) {
				return nil, fmt.Errorf("driver option %s=%q is not an absolute path", option, value)
			}
			*files[option] = value
		case "default-load":
		default:
			return nil, fmt.Errorf("the remote driver has no option %q", option)
		}
	}
	if conn.CACert == "" && conn.ServerName+conn.Cert+conn.Key != "" {
		return nil, errors.New("TLS needs the driver option cacert")
	}
	if (conn.Cert == "") != (conn.Key == "") {
		return nil, errors.New("the driver options cert and key need each other")
	}
	return conn, nil
}
