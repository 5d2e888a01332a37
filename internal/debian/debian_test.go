package debian

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSources(t *testing.T) {
	const out = `'http://mirror.example/debian-security/dists/bookworm-security/InRelease' mirror.example_debian-security_dists_bookworm-security_InRelease 0 
'http://mirror.example/debian-security/dists/bookworm-security/main/binary-amd64/Packages.xz' mirror.example_debian-security_dists_bookworm-security_main_binary-amd64_Packages 0 
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' mirror.example_debian_dists_bookworm_main_binary-amd64_Packages 0 
'http://mirror.example/debian/dists/bookworm/main/binary-all/Packages.xz' mirror.example_debian_dists_bookworm_main_binary-all_Packages 0 
'http://mirror.example/debian/dists/bookworm-updates/main/binary-amd64/Packages.xz' mirror.example_debian_dists_bookworm-updates_main_binary-amd64_Packages 0 
'https://other.example/apt/dists/bookworm/main/binary-amd64/Packages.gz' other.example_apt_dists_bookworm_main_binary-amd64_Packages 0 
'https://other.example/apt/dists/bookworm/stable/binary-amd64/Packages.gz' other.example_apt_dists_bookworm_stable_binary-amd64_Packages 0 
'https://other.example/apt/dists/bookworm-pgdg/main/binary-amd64/Packages.gz' other.example_apt_dists_bookworm-pgdg_main_binary-amd64_Packages 0 
`
	want := []source{
		{"http://mirror.example/debian", "bookworm"},
		{"http://mirror.example/debian-security", "bookworm-security"},
		{"http://mirror.example/debian", "bookworm-updates"},
	}
	got := parseSources(out)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(source{})); diff != "" {
		t.Errorf("parseSources (-want +got):\n%s", diff)
	}
}
