package parity

import "slices"

// Cases are the command lines that both programs run.
var Cases = slices.Concat(contextCases, dockerfileCases, flagCases, outputCases, failureCases)

// one returns the files of a folder with a Dockerfile.
func one(dockerfile string) map[string]string { return map[string]string{"Dockerfile": dockerfile} }

// with returns files and a Dockerfile.
func with(dockerfile string, files map[string]string) map[string]string {
	files["Dockerfile"] = dockerfile
	return files
}
