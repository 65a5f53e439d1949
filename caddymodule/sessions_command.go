package caddymodule

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "sessions",
		Short: "Lists and ends sessions of the running program",
		Long: "Lists the sessions of everybody who is signed in, and ends them at once, on every node and with their open connections. " +
			"It asks the running program over its admin interface, which answers on this host only.",
		CobraFunc: guarded(func(c *cobra.Command) {
			c.Example = "  anteroom sessions list --config /etc/anteroom/Caddyfile\n  anteroom sessions end-user dana --config /etc/anteroom/Caddyfile"
			c.AddCommand(sessionsListCommand(), sessionsEndCommand(), sessionsEndUserCommand())
		}),
	})
}

// sessionsListCommand is `sessions list`.
func sessionsListCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list [--user NAME] [--json]",
		Short: "Lists who is signed in",
		Long: "Prints one line for each session, the newest first: its id, who signed in and how, the roles, the browser, the sites on which it is in use, " +
			"and when it began, was last seen and ends at the latest. The id is the label that stands in the audit log, too. Times are of this machine's zone; " +
			"with --json they are RFC 3339 in UTC.",
		Example: "  anteroom sessions list --config /etc/anteroom/Caddyfile\n  anteroom sessions list --user dana --json",
		Args:    cobra.NoArgs,
	}
	var f adminFlags
	f.add(c)
	user := c.Flags().String("user", "", "only the sessions of this username; upper and lower case do not matter")
	asJSON := c.Flags().Bool("json", false, "print JSON for programs: {\"sessions\":[{\"id\",\"user\",…}]}")
	c.RunE = func(c *cobra.Command, _ []string) error {
		c.SilenceUsage = true
		path := adminPath + "sessions"
		if *user != "" {
			path += "?user=" + url.QueryEscape(*user)
		}
		var list sessionList
		if err := f.call(path, nil, &list); err != nil {
			return fmt.Errorf("listing sessions: %w", err)
		}
		if *asJSON {
			return printJSON(c, list)
		}
		if len(list.Sessions) == 0 {
			who := "Nobody"
			if *user != "" {
				who += " of that username"
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), who+" is signed in.")
			return err
		}
		return printSessions(c, list)
	}
	return c
}

func printSessions(c *cobra.Command, list sessionList) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tUSER\tSIGNED IN WITH\tROLES\tDEVICE\tSITES\tSINCE\tLAST SEEN\tENDS") // Flush tells of errors
	for _, s := range list.Sessions {
		user := s.User
		if user == "" {
			user = s.Subject
		}
		device := strings.Join(strings.Fields(s.Browser+" "+s.System), " ")
		_, _ = fmt.Fprintln(w, strings.Join([]string{
			cell(s.ID), cell(user), cell(s.Source), cell(strings.Join(s.Roles, ",")), cell(device), cell(strings.Join(s.Sites, ",")),
			localTime(s.Since), localTime(s.LastSeen), localTime(s.Ends),
		}, "\t"))
	}
	return w.Flush()
}

// sessionsEndCommand is `sessions end`.
func sessionsEndCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "end ID",
		Short: "Ends one session",
		Long: "Ends the session of this id at once: on every site and node, with its open connections. The id is the one that `sessions list` and the audit log show; " +
			"put -- before an id that begins with a hyphen. The person can sign in again. It fails when no such session lives.",
		Example: "  anteroom sessions end 0Wq3xkZ8bMfT1nVd",
		Args:    cobra.ExactArgs(1),
	}
	var f adminFlags
	f.add(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		var n ended
		if err := f.call(adminPath+"sessions/end", map[string]string{"id": args[0]}, &n); err != nil {
			return fmt.Errorf("ending session %s: %w", printable(args[0]), err)
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), "The session is over.")
		return err
	}
	return c
}

// sessionsEndUserCommand is `sessions end-user`.
func sessionsEndUserCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "end-user NAME | end-user --source SOURCE --subject SUBJECT",
		Short: "Ends all sessions of one person",
		Long: "Ends every session of a person at once, on every site and node, and tells how many there were. The person is named by the username that `sessions list` shows (upper and lower case do not matter), " +
			"or by the way to sign in and the person's subject there, as the audit log shows them. It fails when there was none, as a mistyped name looks like that. " +
			"The person can sign in again unless the identity provider refuses: disable the account there first.",
		Example: "  anteroom sessions end-user dana\n  anteroom sessions end-user --source hospital --subject 8c1f5e02",
		Args:    cobra.MaximumNArgs(1),
	}
	var f adminFlags
	f.add(c)
	source := c.Flags().String("source", "", "name of the way to sign in, with --subject instead of NAME")
	subject := c.Flags().String("subject", "", "the person's subject there")
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		want, who := map[string]string{"source": *source, "subject": *subject}, *source+" "+*subject
		switch {
		case len(args) == 1 && *source == "" && *subject == "" && args[0] != "":
			want, who = map[string]string{"username": args[0]}, args[0]
		case len(args) == 1 || *source == "" || *subject == "":
			return errors.New("ending sessions: write the username, or --source SOURCE and --subject SUBJECT")
		}
		var n ended
		if err := f.call(adminPath+"sessions/end-user", want, &n); err != nil {
			return fmt.Errorf("ending sessions of %s: %w", printable(who), err)
		}
		if n.Ended == 0 {
			return fmt.Errorf("%s has no session: write the name as `sessions list` shows it", printable(who))
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "Sessions ended: %d.\n", n.Ended)
		return err
	}
	return c
}
