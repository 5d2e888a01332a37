// Command greet greets in the language of its first argument.
package main

import (
	"os"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

func main() {
	tag := language.English
	if len(os.Args) > 1 {
		tag = language.Make(os.Args[1])
	}
	message.NewPrinter(tag).Printf("Hello from %d downloads that are always the same.\n", 1000)
}
