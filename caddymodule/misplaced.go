package caddymodule

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What is secret is in files; a line of a configuration or of a shell has the file's name. Whoever writes the secret itself there
// is told so as early as can be, without repeating it: Caddy writes what it was given into its log at DEBUG, and `adapt` prints it.

// secretHalf begins the secret line of a recovery key's file (package hardening).
const secretHalf = "ANTEROOM-RECOVERY-SECRET"

var errSecretHalf = errors.New("this is the secret half of a recovery key; write the public half, or the name of the file, and make a new pair: this one stands where others may read it")

func holdsSecretHalf(words ...string) bool {
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(word, secretHalf) })
}

// checkPath refuses what is much more like a credential than like the name of a file.
func checkPath(text string) error {
	if holdsSecretHalf(text) {
		return errSecretHalf
	}
	if len(text) < 32 || strings.HasPrefix(text, "/") || strings.ContainsAny(text, "{.") || strings.HasPrefix(text, "sha256:") {
		return nil
	}
	if _, err := os.Stat(text); err == nil {
		return nil
	}
	return errors.New("what stands here looks like the secret itself; write the absolute path of a file that has it, and make a new one: this one stands where others may read it")
}

// guarded equips a command and all below it with a look at their arguments, which comes before any of them is printed, sent or
// taken for the name of a file.
func guarded(equip func(*cobra.Command)) func(*cobra.Command) {
	return func(c *cobra.Command) {
		equip(c)
		guard(c)
	}
}

func guard(c *cobra.Command) {
	for _, sub := range c.Commands() {
		guard(sub)
	}
	if !c.Runnable() {
		return
	}
	check := c.Args
	c.Args = func(c *cobra.Command, args []string) error {
		bad := holdsSecretHalf(args...)
		c.Flags().Visit(func(f *pflag.Flag) { bad = bad || holdsSecretHalf(f.Value.String()) })
		switch {
		case bad:
			return errSecretHalf
		case check != nil:
			return check(c, args)
		}
		return nil
	}
}
