package caddymodule

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// keysListCommand is `keys list`.
func keysListCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list [--json]",
		Short: "Lists the signing keys of sessions and assertions",
		Long: "Prints one line for each signing key of the running program: its name, what it signs (sessions, or assertions for the apps), whether it signs now, " +
			"comes next or only verifies, and since and until when. Keys change by themselves every 30 days; nobody is signed out by it. No secret is shown.",
		Example: "  anteroom keys list --config /etc/anteroom/Caddyfile",
		Args:    cobra.NoArgs,
	}
	var f adminFlags
	f.add(c)
	asJSON := c.Flags().Bool("json", false, "print JSON for programs: {\"keys\":[{\"kid\",\"use\",\"state\",…}]}")
	c.RunE = func(c *cobra.Command, _ []string) error {
		c.SilenceUsage = true
		var list keyList
		if err := f.call(adminPath+"keys", nil, &list); err != nil {
			return fmt.Errorf("listing keys: %w", err)
		}
		if *asJSON {
			return printJSON(c, list)
		}
		return printKeys(c, list)
	}
	return c
}

func printKeys(c *cobra.Command, list keyList) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "KEY\tUSE\tSTATE\tCREATED\tSIGNS FROM\tVERIFIES UNTIL") // Flush tells of errors
	for _, k := range list.Keys {
		_, _ = fmt.Fprintln(w, strings.Join([]string{
			cell(k.KID), cell(k.Use), cell(k.State), localTime(k.Created), localTime(k.Signs), localTime(k.Until),
		}, "\t"))
	}
	return w.Flush()
}

// keysRotateCommand is `keys rotate`.
func keysRotateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "rotate [signing | data | storage | master | ring [NAME] | client NAME [--activate]]",
		Short: "Begins the next signing keys, data keys, master key or peppers now",
		Long: "Ahead of the schedule, and nobody is signed out. `rotate` or `rotate signing` makes new signing keys for sessions and assertions: they are published at once and sign two minutes later; the old ones verify until their last token is dead. " +
			"`rotate data` makes new data keys and seals anew what Anteroom keeps; applications are told to do the same. A certificate storage with data keys of its own gets new ones, too; `rotate storage` is about that one alone. `rotate master` makes a new master key file and wraps the data keys under it; no record changes. " +
			"`rotate ring` makes a new pepper for the password rings, which is used five minutes later. `rotate client NAME` makes the next key with which Anteroom proves itself to the identity provider NAME, and publishes it; with --activate that key signs, after the provider has shown that it knows it. When a key may have leaked, use `keys compromised` instead, or `keys kill` for a signing key.",
		Example: "  anteroom keys rotate\n  anteroom keys rotate data",
		Args:    cobra.MaximumNArgs(2),
	}
	var f adminFlags
	f.add(c)
	dry := c.Flags().Bool("dry-run", false, "only print what would be done; not for signing keys and client keys")
	activate := c.Flags().Bool("activate", false, "of a client: the next key signs from now on")
	force := c.Flags().Bool("force", false, "with --activate: do not ask the provider whether it knows the key")
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		if len(args) == 0 {
			args = []string{"signing"}
		}
		verb, known := rotations[args[0]]
		client := args[0] == "client"
		switch {
		case len(args) == 2 && args[0] != "ring" && !client, client && len(args) == 1, !known && !client && args[0] != "signing":
			return fmt.Errorf("rotating keys: write signing, data, storage, master, ring and its name, or client and its name, not %q", strings.Join(args, " "))
		case (*activate || *force) && !client, *force && !*activate, *dry && client:
			return errors.New("rotating keys: --activate belongs to `rotate client NAME`, --force to --activate, and --dry-run to neither")
		case client:
			return rotateClientKey(c, f, args[1], *activate, *force)
		case known:
			want := map[string]any{"verb": verb}
			if args[0] == ringStorage {
				want["ring"] = ringStorage
			}
			if len(args) == 2 {
				want["target"] = args[1]
			}
			if err := runKeys(c, f, "keys/begin", want, *dry, true); err != nil {
				return fmt.Errorf("rotating keys: %w", err)
			}
			return nil
		}
		var list keyList
		if err := f.call(adminPath+"keys/rotate", struct{}{}, &list); err != nil {
			return fmt.Errorf("rotating keys: %w", err)
		}
		return printKeys(c, list)
	}
	return c
}

// keysKillCommand is `keys kill`.
func keysKillCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "kill KEY",
		Short: "Refuses everything that a signing key has signed, at once",
		Long: "Removes a signing key for good, on every node: for a key that may have leaked. Every session whose token it signed is over and everybody concerned signs in again; " +
			"another key signs from now on. The name of the key is the one that `keys list` shows; put -- before a name that begins with a hyphen.",
		Example: "  anteroom keys kill nF3rTbq0cX1mC2m9d4yS7r0oWlT2Qe0u5m8Zk3vJ1aA",
		Args:    cobra.ExactArgs(1),
	}
	var f adminFlags
	f.add(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		var list keyList
		if err := f.call(adminPath+"keys/kill", map[string]string{"kid": args[0]}, &list); err != nil {
			return fmt.Errorf("killing key %s: %w", printable(args[0]), err)
		}
		if _, err := fmt.Fprintln(c.OutOrStdout(), "The key is dead: no token that it signed is accepted any more. The keys now:"); err != nil {
			return err
		}
		return printKeys(c, list)
	}
	return c
}
