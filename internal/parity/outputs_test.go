package parity

const small = "FROM tiny\nCOPY --chmod=0640 a /dir/a\n"

func smallFiles() map[string]string { return with(small, map[string]string{"a": "a\n"}) }

// outputCases are destinations of the result, and what the programs print about it.
var outputCases = []Case{
	{Name: "archive", Files: smallFiles(), Args: []string{"-o", "type=oci,dest=app.tar", "-t", "app:v1", "."}},
	{Name: "archive without a name", Files: smallFiles(), Args: []string{"--output", "type=oci,dest=app.tar", "."}},
	{Name: "Docker archive", Files: smallFiles(), Args: []string{"-o", "type=docker,dest=app.tar", "-t", "app:v1", "."}},
	{Name: "layout", Files: smallFiles(), Args: []string{"-o", "type=oci,dest=app,tar=false", "-t", "app:v1", "."}},
	{Name: "archive on standard output", Files: smallFiles(), Args: []string{"-o", "type=oci,dest=-", "-t", "app:v1", "."}},
	{Name: "Docker archive on standard output", Files: smallFiles(), Args: []string{"-o", "type=docker,dest=-", "-t", "app:v1", "."}},
	{Name: "folder of files", Files: smallFiles(), Args: []string{"-o", "out", "."}},
	{Name: "local", Files: one("FROM scratch\nCOPY --from=shell /usr/bin /bin\n"), Args: []string{"-o", "type=local,dest=out", "."}},
	{Name: "local for several platforms", Files: smallFiles(), Args: []string{"--platform=linux/amd64,linux/arm64", "-o", "type=local,dest=out", "."}},
	{Name: "tar", Files: smallFiles(), Args: []string{"--output=type=tar,dest=out.tar", "."}},
	{Name: "tar on standard output", Files: smallFiles(), Args: []string{"-o", "-", "."}},
	{Name: "several outputs", Files: smallFiles(), Args: []string{"-o", "out", "-o", "type=oci,dest=app.tar", "-t", "app", "."}},
	{Name: "cache only", Files: smallFiles(), Args: []string{"-o", "type=cacheonly", "."}},
	{Name: "push", Files: smallFiles(), Args: []string{"--push", "-t", "$REGISTRY/$SIDE/push:v1", "-t", "$REGISTRY/$SIDE/push:v2", "."}, Pushed: []string{"$SIDE/push:v1", "$SIDE/push:v2"}},
	{Name: "push several platforms", Files: smallFiles(), Args: []string{"--push", "--platform=linux/amd64,linux/arm64", "-t", "$REGISTRY/$SIDE/multi:v1", "."}, Pushed: []string{"$SIDE/multi:v1"}},
	{Name: "registry", Files: smallFiles(), Args: []string{"-o", "type=registry", "-t", "$REGISTRY/$SIDE/registry:v1", "."}, Pushed: []string{"$SIDE/registry:v1"}},
	{Name: "image and push", Files: smallFiles(), Args: []string{"-o", "type=image,name=$REGISTRY/$SIDE/image:v1,push=true", "."}, Pushed: []string{"$SIDE/image:v1"}},
	{Name: "quiet", Files: smallFiles(), Args: []string{"-q", "."}, Look: func(o *outcome) string { return o.stderr }},
	{Name: "quiet with a name", Files: smallFiles(), Args: []string{"--quiet", "-t", "app", "."}, Look: func(o *outcome) string { return o.stderr }},
	{Name: "quiet failure", Files: one("FROM shell\nRUN echo said it; false\n"), Args: []string{"-q", "."}, Fails: true, Line: 2, Says: []string{"said it"}},
	{Name: "id file", Files: with(small, map[string]string{"a": "a\n", "iid": "of the last build\n"}), Args: []string{"--iidfile", "iid", "."}},
	{Name: "id file of a failure", Files: with("FROM shell\nRUN false\n", map[string]string{"iid": "of the last build\n"}), Args: []string{"--iidfile", "iid", "."}, Fails: true, Line: 2},
	{Name: "metadata", Files: smallFiles(), Args: []string{"--metadata-file=metadata.json", "-t", "app:v1", "-t", "app:v2", "."}},
	{Name: "metadata of several platforms", Files: smallFiles(), Args: []string{"--metadata-file", "metadata.json", "--platform=linux/amd64,linux/arm64", "."}},
	{Name: "metadata of a push", Files: smallFiles(), Args: []string{"--metadata-file", "metadata.json", "--push", "-t", "$REGISTRY/$SIDE/meta:v1", "."}},
	{Name: "metadata of a failure", Files: one("FROM shell\nRUN false\n"), Args: []string{"--metadata-file", "metadata.json", "."}, Fails: true, Line: 2},
	{Name: "archive of a failure", Files: one("FROM shell\nRUN false\n"), Args: []string{"-o", "type=oci,dest=app.tar", "."}, Fails: true, Line: 2},
	{Name: "folder of a failure", Files: one("FROM shell\nRUN false\n"), Args: []string{"-o", "out", "."}, Fails: true, Line: 2},
	{Name: "compressed with zstd", Files: smallFiles(), Args: []string{"-o", "type=oci,dest=app.tar,compression=zstd", "."}, Code: 2, Tells: "compression=zstd", Differs: []string{"refused"}},
	{Name: "inline cache", Files: smallFiles(), Args: []string{"--cache-to=type=inline", "."}, Tells: "inline"},
}
