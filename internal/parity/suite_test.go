package parity

// Suite are the integration tests of buildx itself, by a pattern of their names, that fail with kedge in its place,
// each with the reason. TestBuildx runs them all.
var Suite = []struct{ Tests, Why string }{
	{"TestBuildPolicy.*", "the lock is the policy of a build, so kedge refuses others"},
	{"TestBakePolicyConfigFlags", "the lock is the policy of a build; `--policy disabled=true` builds without the definition's"},
	{"TestBuildLocalState.*", "`--metadata-file` has no `buildx.build.ref`, which names a build in buildx's own history"},
	{"Test(Build|Bake)MetadataWarnings.*", "the warnings are there, `buildx.build.ref` is not"},
	{"Test(Build|Bake)MetadataProvenance.*", "provenance is attached only on request, and `buildx.build.ref` is not there"},
	{"TestBuildDetailsLink", "the link leads to buildx's history of builds in Docker Desktop"},
	{"TestBuild(BuildArg|Label)NoKey", "they compare everything on stderr; kedge's message has the same words, names the flag, and is followed by a hint"},
	{"TestBuildSecret", "the image has the value of a secret; `--secret-check=false` builds it"},
	{"TestBuildTargetPlatformOSVersion", "kedge builds images for linux only"},
	{"TestBakeDeferOutput", "kedge writes the output of a target when its build ends, so `--jobs=defer-output` is refused"},
	{"TestBakeDeferErrorCancel", "it expects buildx's words after an interrupt; kedge says `interrupted`, and exits with 130 too"},
}
