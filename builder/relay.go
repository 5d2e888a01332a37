package builder

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // the format of Java's key stores has it
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/network/relay"
	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// relayStore is the daemon's name for the images of relays.
const relayStore = "kedge-relay"

// The ids of secrets that steps get from kedge itself.
const (
	certsPEM = "kedge-ca.pem"
	certsJKS = "kedge-ca.jks"
)

// socketPrefix begins the ids of sockets that steps get from kedge itself. The ID of the step follows, and after
// a dash its key.
const socketPrefix = "kedge-"

// environment are the variables by which programs find the proxy's certificate.
var environment = []struct{ name, value string }{
	{"SSL_CERT_FILE", relay.CertsPEM}, // OpenSSL, Go, rustls, .NET
	{"CURL_CA_BUNDLE", relay.CertsPEM},
	{"NODE_EXTRA_CA_CERTS", relay.CertsPEM},
	{"PIP_CERT", relay.CertsPEM},
	{"REQUESTS_CA_BUNDLE", relay.CertsPEM}, // Python's requests
	{"GIT_SSL_CAINFO", relay.CertsPEM},
	{"CARGO_HTTP_CAINFO", relay.CertsPEM},
	{"AWS_CA_BUNDLE", relay.CertsPEM},
	{"COMPOSER_CAFILE", relay.CertsPEM},
	{"DENO_CERT", relay.CertsPEM},
	{"HEX_CACERTS_PATH", relay.CertsPEM},
	{"NIX_SSL_CERT_FILE", relay.CertsPEM},
	{"PERL_LWP_SSL_CA_FILE", relay.CertsPEM},
	{"APT_CONFIG", relay.AptConf}, // GnuTLS reads no variable
	{"WGETRC", relay.Wgetrc},
}

// javaOptions is the variable from which Java takes options. Java reads no proxy variable and no certificate in PEM.
const javaOptions = "JAVA_TOOL_OPTIONS"

// withJavaOptions has Java use the proxy and trust its certificate. Options of the Dockerfile follow, and win.
func withJavaOptions(env []string) []string {
	host, port, _ := strings.Cut(strings.TrimPrefix(relay.Proxy, "http://"), ":")
	options := "-Djavax.net.ssl.trustStore=" + relay.CertsJKS
	for _, scheme := range []string{"http", "https"} {
		options += fmt.Sprintf(" -D%s.proxyHost=%s -D%s.proxyPort=%s", scheme, host, scheme, port)
	}
	env = slices.Clone(env)
	for i, kv := range env {
		if own, ok := strings.CutPrefix(kv, javaOptions+"="); ok {
			env[i] = javaOptions + "=" + options + " " + own
			return env
		}
	}
	return append(env, javaOptions+"="+options)
}

// relayImages are the manifests of the images that a step gets.
type relayImages struct{ program, resolver digest.Digest }

// apply takes the network from a RUN, and gives it the relay.
func (d *downloads) apply(v frontend.Vertex) error {
	exec := v.Op.GetExec()
	if d == nil || exec.GetMeta() == nil || exec.Network == pb.NetMode_NONE || len(exec.Meta.Args) == 0 {
		return nil
	}
	s, ok := d.steps[place(v.Step, v.Args)]
	images, loaded := d.images[v.Op.GetPlatform().GetArchitecture()]
	if !ok || !loaded {
		return fmt.Errorf("the step %q was not planned", v.Step.Text)
	}
	key := d.keys[s.ID]
	add := func(m *pb.Mount) {
		m.Output = int64(pb.SkipOutput)
		exec.Mounts = append(exec.Mounts, m)
	}
	addFrom := func(manifest digest.Digest, m *pb.Mount) error {
		in, err := v.Add(&pb.Op{
			Op: &pb.Op_Source{Source: &pb.SourceOp{
				Identifier: "oci-layout://kedge.local/relay@" + manifest.String(),
				Attrs:      map[string]string{pb.AttrOCILayoutStoreID: relayStore},
			}},
			Platform: v.Op.Platform, Constraints: v.Op.Constraints,
		}, &pb.OpMetadata{Description: map[string]string{"llb.customname": "[internal] relay for downloads"}})
		if err == nil {
			m.Input, m.Readonly = int64(len(v.Op.Inputs)), true
			v.Op.Inputs = append(v.Op.Inputs, in)
			add(m)
		}
		return err
	}
	if err := addFrom(images.program, &pb.Mount{Dest: relay.Dir}); err != nil {
		return err
	}
	const resolvConf = "/etc/resolv.conf"
	if !slices.ContainsFunc(exec.Mounts, func(m *pb.Mount) bool { return m.Dest == resolvConf }) {
		if err := addFrom(images.resolver, &pb.Mount{Selector: strings.TrimPrefix(relay.Resolv, relay.Dir), Dest: resolvConf}); err != nil {
			return err
		}
	}
	const none = -1
	add(&pb.Mount{Input: none, Dest: relay.Socket, MountType: pb.MountType_SSH, SSHOpt: &pb.SSHOpt{ID: socketPrefix + s.ID + "-" + key.key, Mode: 0o666}})
	for _, m := range [][2]string{{certsPEM, relay.CertsPEM}, {certsJKS, relay.CertsJKS}} {
		add(&pb.Mount{Input: none, Dest: m[1], MountType: pb.MountType_SECRET, SecretOpt: &pb.SecretOpt{ID: m[0], Mode: 0o444}})
	}
	exec.Network = pb.NetMode_NONE
	exec.Meta.Args = append([]string{relay.Program}, exec.Meta.Args...)
	exec.Meta.ProxyEnv = &pb.ProxyEnv{HttpProxy: relay.Proxy, HttpsProxy: relay.Proxy, NoProxy: "localhost,127.0.0.1,::1"}
	exec.Meta.ExtraHosts = nil // the relay answers for all names, and the proxy has the addresses
	for _, e := range environment {
		exec.Meta.Env = frontend.WithDefault(exec.Meta.Env, e.name, e.value)
	}
	exec.Meta.Env = withJavaOptions(exec.Meta.Env)
	if key.mode == recorded {
		// An empty cache mount makes the step ask for everything that it needs.
		for _, m := range exec.Mounts {
			if m.MountType == pb.MountType_CACHE {
				m.CacheOpt.ID, d.caches = cacheNamespace(key.key)+m.CacheOpt.ID, true
			}
		}
	}
	return nil
}

// cacheNamespace returns the prefix of the cache mounts of steps that are recorded with a key.
func cacheNamespace(key string) string { return "kedge-" + key + "-" }

// stepSecrets are the user's secrets and kedge's certificate.
type stepSecrets struct {
	secrets.SecretStore
	pem []byte
}

// GetSecret implements secrets.SecretStore.
func (s stepSecrets) GetSecret(ctx context.Context, id string) ([]byte, error) {
	switch id {
	case certsPEM:
		return s.pem, nil
	case certsJKS:
		return keyStore(s.pem), nil
	}
	return s.SecretStore.GetSecret(ctx, id)
}

// keyStore returns a Java key store with a certificate to trust. Java reads it without a password, which is
// only a checksum here. The format is that of sun.security.provider.JavaKeyStore.
func keyStore(cert []byte) []byte {
	block, _ := pem.Decode(cert)
	if block == nil {
		return nil
	}
	const magic, version, trusted = 0xfeedfeed, 2, 2
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.BigEndian, v) } // a bytes.Buffer takes everything
	text := func(s string) { put(uint16(len(s))); b.WriteString(s) }
	put(uint32(magic))
	put(uint32(version))
	put(uint32(1)) // entries
	put(uint32(trusted))
	text("kedge")
	put(uint64(0)) // when it was added
	text("X.509")
	put(uint32(len(block.Bytes)))
	b.Write(block.Bytes)
	sum := sha1.New() //nolint:gosec // see above
	_ = binary.Write(sum, binary.BigEndian, utf16.Encode([]rune("changeit")))
	sum.Write([]byte("Mighty Aphrodite"))
	sum.Write(b.Bytes())
	b.Write(sum.Sum(nil))
	return b.Bytes()
}
