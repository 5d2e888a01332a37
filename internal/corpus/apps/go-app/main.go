// Command app greets its user.
package main

import (
	"fmt"
	"os/user"

	"example.com/greeting"
)

func main() {
	if u, err := user.Current(); err == nil {
		fmt.Println(greeting.Text(u.Username))
	}
}
