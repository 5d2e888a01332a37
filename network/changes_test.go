package network

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPackageOf(t *testing.T) {
	for url, want := range map[string]Package{
		"http://deb.example.org/debian/pool/main/n/nginx/nginx-light_1.22.1-9%2bdeb12u1_amd64.deb":                                  {"deb", "nginx-light", "1.22.1-9+deb12u1"},
		"https://download.docker.com/linux/debian/dists/bookworm/pool/stable/amd64/docker-ce_27.1.1-1~debian.12~bookworm_amd64.deb": {"deb", "docker-ce", "27.1.1-1~debian.12~bookworm"},
		"https://h/pool/g++_4%3a12.2.0-3_amd64.deb":                                                                                 {"deb", "g++", "4:12.2.0-3"},
		"https://dl-cdn.alpinelinux.org/alpine/v3.20/main/x86_64/busybox-extras-1.36.1-r29.apk":                                     {"apk", "busybox-extras", "1.36.1-r29"},
		"https://dl-cdn.alpinelinux.org/alpine/v3.20/main/x86_64/libstdc++-13.2.1_git20240309-r0.apk":                               {"apk", "libstdc++", "13.2.1_git20240309-r0"},
		"https://mirror/fedora/Packages/p/python3-libs-3.12.4-1.fc40.x86_64.rpm":                                                    {"rpm", "python3-libs", "3.12.4-1.fc40"},
		"https://mirror/tzdata-2024a-5.fc40.noarch.rpm":                                                                             {"rpm", "tzdata", "2024a-5.fc40"},
		"https://files.pythonhosted.org/packages/ab/cd/Flask_SQLAlchemy-3.1.1-py3-none-any.whl":                                     {"pypi", "flask-sqlalchemy", "3.1.1"},
		"https://files.pythonhosted.org/packages/ab/cd/numpy-2.0.1-1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl":    {"pypi", "numpy", "2.0.1"},
		"https://files.pythonhosted.org/packages/source/z/zope.interface/zope.interface-6.4.tar.gz":                                 {"pypi", "zope-interface", "6.4"},
		"https://npm.example.org/left-pad/-/left-pad-1.3.0.tgz":                                                                     {"npm", "left-pad", "1.3.0"},
		"https://npm.example.org/@babel/core/-/core-7.24.0-beta.1.tgz":                                                              {"npm", "@babel/core", "7.24.0-beta.1"},
		"https://npm.corp/api/npm/all/lodash/-/lodash-4.17.21.tgz":                                                                  {"npm", "lodash", "4.17.21"},
		"https://go.example.org/github.com/!burnt!sushi/toml/@v/v1.4.0.zip":                                                         {"golang", "github.com/BurntSushi/toml", "v1.4.0"},
		"https://goproxy.corp/repository/go/golang.org/x/net/@v/v0.30.0.mod":                                                        {"golang", "golang.org/x/net", "v0.30.0"},
		"https://static.crates.io/crates/serde_json/serde_json-1.0.120.crate":                                                       {"cargo", "serde_json", "1.0.120"},
		"https://crates.io/api/v1/crates/proc-macro2/1.0.86/download":                                                               {"cargo", "proc-macro2", "1.0.86"},
		"https://rubygems.org/gems/rails-7.1.3.4.gem":                                                                               {"gem", "rails", "7.1.3.4"},
		"https://rubygems.org/gems/nokogiri-1.16.6-x86_64-linux.gem":                                                                {"gem", "nokogiri", "1.16.6-x86_64-linux"},
		"https://repo1.maven.org/maven2/org/apache/commons/commons-lang3/3.14.0/commons-lang3-3.14.0.jar":                           {"maven", "org.apache.commons:commons-lang3", "3.14.0"},
		"https://repo1.maven.org/maven2/junit/junit/4.13/junit-4.13-sources.jar":                                                    {"maven", "junit:junit", "4.13"},
	} {
		if got, ok := packageOf(url); !ok || got != want {
			t.Errorf("%s: %+v, %v", url, got, ok)
		}
	}
	for _, url := range []string{
		"http://deb.example.org/debian/dists/bookworm/InRelease", "https://h/", "https://h/file.tar.gz", "https://h/tool-1.2.tar.gz",
		"https://npm.example.org/left-pad", "https://go.example.org/golang.org/x/net/@v/list", "https://h/a_b.deb",
		"https://repo1.maven.org/maven2/junit/junit/4.13/maven-metadata.xml", "https://h/maven2/a/b/1/other-1.jar",
		"https://h/x.rpm", "https://h/x.whl", "https://rubygems.org/info/rails",
	} {
		if got, ok := packageOf(url); ok {
			t.Errorf("%s: %+v", url, got)
		}
	}
}

func FuzzPackageOf(f *testing.F) {
	f.Add("https://h/pool/g++_4%3a12.2.0-3_amd64.deb")
	f.Add("https://go.example.org/github.com/!burnt!sushi!/toml/@v/v1.4.0.zip")
	f.Add("https://repo1.maven.org/maven2/junit/junit/4.13/junit-4.13-sources.jar")
	f.Add("https://rubygems.org/gems/nokogiri-1.16.6-x86_64-linux.gem")
	f.Fuzz(func(t *testing.T, s string) {
		if p, ok := packageOf(s); ok && (p.Kind == "" || p.Name == "" || p.Version == "") {
			t.Errorf("%q: %+v", s, p)
		}
	})
}

func TestCompare(t *testing.T) {
	parse := func(lines ...string) *Record {
		text := "version 1\n" + strings.Join(lines, "\n")
		text = strings.NewReplacer("DA", string(digestA), "DB", string(digestB)).Replace(text)
		r, err := Parse("R", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := parse(
		"GET http://deb.example/pool/a_1_amd64.deb 200 3 DA aaaaaaaa",
		"GET http://deb.example/pool/b_1_amd64.deb 200 3 DA -",
		"GET http://deb.example/pool/c_1_amd64.deb 200 3 DA -",
		"GET http://deb.example/InRelease 200 3 DA -",
		"GET http://deb.example/same 200 3 DA -",
		"GET http://old.example/x 404 3 DA -",
	)
	after := parse(
		"GET http://deb.example/pool/a_2_amd64.deb 200 3 DB -",
		"GET http://evil.example/pool/b_1_amd64.deb 200 3 DA -", // from elsewhere, the same bytes
		"GET http://deb.example/pool/c_1_amd64.deb 200 4 DB -",
		"GET http://deb.example/pool/d_1_amd64.deb 200 4 DB -",
		"GET http://deb.example/InRelease 200 4 DB -",
		"GET http://deb.example/same 200 3 DA bbbbbbbb",
		"GET http://deb.example/new 302 0 DA -",
	)
	got := Compare(before, after)
	want := []PackageChange{
		{Kind: "deb", Name: "a", Old: []string{"1"}, New: []string{"2"}},
		{Kind: "deb", Name: "c", Old: []string{"1"}, New: []string{"1"}, Rebuilt: []string{"1"}},
		{Kind: "deb", Name: "d", New: []string{"1"}},
	}
	if diff := cmp.Diff(want, got.Packages); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([][]string{{"evil.example"}, {"old.example"}}, [][]string{got.Hosts, got.Gone}); diff != "" {
		t.Error(diff)
	}
	var others []string
	for _, o := range got.Others {
		line := o.URL
		if o.Old == nil {
			line = "+" + line
		} else if o.New == nil {
			line = "-" + line
		}
		others = append(others, line)
	}
	if diff := cmp.Diff([]string{"http://deb.example/InRelease", "+http://deb.example/new", "-http://old.example/x"}, others); diff != "" {
		t.Error(diff)
	}
	for _, same := range []*Record{before, nil} {
		if c := Compare(same, same); len(c.Hosts)+len(c.Gone)+len(c.Packages)+len(c.Others) > 0 {
			t.Errorf("a record differs from itself: %+v", c)
		}
	}
	if all := Compare(nil, after); len(all.Packages) != 4 || len(all.Hosts) != 2 {
		t.Errorf("%+v", all)
	}
}
