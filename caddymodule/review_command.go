package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/anteroom-proxy/anteroom/emergency"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "review",
		Short: "Lists emergency accesses, and accepts or rejects them",
		Long: "Lists who broke the glass and waits for a review: for which patient, when, for how long and why, and whether the alarm arrived. `review accept` and `review reject` write down a verdict. " +
			"An emergency access stays open until somebody reviewed it; after 72 hours it is OVERDUE and an alarm is raised once a day. Reviewed ones are listed for 90 days; the audit log keeps everything. " +
			"It asks the running program over its admin interface, which answers on this host only.",
		CobraFunc: guarded(equipReview),
	})
}

// equipReview makes `review`, which lists, and what hangs below it.
func equipReview(c *cobra.Command) {
	c.Use = "review [--state open|accepted|rejected|all] [--json]"
	c.Example = "  anteroom review --config /etc/anteroom/Caddyfile\n  anteroom review accept 7Q2M9XKD4T --comment 'ward round, asked by phone'\n  anteroom review reject 7Q2M9XKD4T --comment 'no treatment relation'"
	listReviews(c)
	list := &cobra.Command{Use: "list [--state STATE] [--json]", Short: "Lists emergency accesses, the same as `review` alone"}
	listReviews(list)
	c.AddCommand(list, verdictCommand(true), verdictCommand(false), reviewReportCommand())
}

// reviewCommand is `review` as a program finds it.
func reviewCommand() *cobra.Command {
	c := &cobra.Command{Use: "review"}
	equipReview(c)
	return c
}

// listReviews makes a command one that lists.
func listReviews(c *cobra.Command) {
	var f adminFlags
	f.add(c)
	state := c.Flags().String("state", emergency.StateOpen, "open, accepted, rejected or all")
	asJSON := c.Flags().Bool("json", false, "print JSON for programs: {\"reviews\":[{\"id\",\"user\",\"patient\",…}]}")
	c.Args = cobra.NoArgs
	c.RunE = func(c *cobra.Command, _ []string) error {
		c.SilenceUsage = true
		switch *state {
		case emergency.StateOpen, emergency.StateAccepted, emergency.StateRejected, emergency.StateAll:
		default:
			return errors.New("--state is open, accepted, rejected or all")
		}
		var list reviewList
		if err := f.call(adminPath+"reviews?state="+*state, nil, &list); err != nil {
			return fmt.Errorf("listing emergency accesses: %w", err)
		}
		if *asJSON {
			return printJSON(c, list)
		}
		return printReviews(c, list, *state, time.Now())
	}
}

func printReviews(c *cobra.Command, list reviewList, state string, now time.Time) error {
	out := c.OutOrStdout()
	if len(list.Reviews) == 0 {
		none := map[string]string{emergency.StateOpen: "No emergency access waits for review.", emergency.StateAll: "There was no emergency access lately."}
		_, err := fmt.Fprintln(out, cmp.Or(none[state], "No emergency access was "+state+" lately."))
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	head := "ID\tWHO\tROLES\tPATIENT\tSITE\tREASON\tBEGUN\tFOR\tALARM\tAGE"
	if state != emergency.StateOpen {
		head += "\tSTATE\tREVIEWER\tCOMMENT"
	}
	_, _ = fmt.Fprintln(w, head) // Flush tells of errors
	open, overdue := 0, 0
	for _, r := range list.Reviews {
		age := span(now.Sub(r.Begun))
		if r.Overdue {
			age += " OVERDUE"
			overdue++
		}
		if r.Drill {
			age += " DRILL"
		}
		if r.Stale {
			age += " NO-FRESH-SIGN-IN"
		}
		if r.State == emergency.StateOpen || r.State == emergency.StateUnreadable {
			open++
		}
		fields := []string{
			cell(r.ID), cell(cmp.Or(r.User, r.Subject)), cell(strings.Join(r.Roles, ",")), cell(r.Patient), cell(r.Site), cell(why(r)),
			localTime(r.Begun), cell(lasted(r, now)), cell(r.Alarm), age,
		}
		if state != emergency.StateOpen {
			fields = append(fields, cell(r.State), cell(r.Reviewer), cell(shortened(r.Comment, 60)))
		} else if r.State == emergency.StateUnreadable {
			fields[len(fields)-1] += " UNREADABLE"
		}
		_, _ = fmt.Fprintln(w, strings.Join(fields, "\t"))
	}
	if err := w.Flush(); err != nil || state != emergency.StateOpen {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d open, %d overdue. Next: `anteroom review accept ID` or `anteroom review reject ID --comment WHY`; --json shows every field in full.\n", open, overdue)
	return err
}

// why is the reason in one short field; --json has all of it.
func why(r reviewEntry) string {
	if r.Reason == "" {
		return ""
	}
	return r.Reason + ": " + shortened(r.Text, 60)
}

// lasted says how long access was given, or that it still is.
func lasted(r reviewEntry, now time.Time) string {
	switch {
	case r.Until.IsZero():
		return ""
	case !r.Ended.IsZero():
		return span(r.Ended.Sub(r.Begun))
	case now.Before(r.Until):
		return span(r.Until.Sub(r.Begun)) + ", still runs"
	}
	return span(r.Until.Sub(r.Begun))
}

// span is a time for a person: its two largest units.
func span(d time.Duration) string {
	d = max(0, d).Round(time.Second)
	day := 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd %dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// shortened cuts a text for a table.
func shortened(s string, limit int) string {
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(s)[:limit-1]) + "…"
}

// verdictCommand is `review accept` or `review reject`.
func verdictCommand(accept bool) *cobra.Command {
	word, path, about := "reject", "reviews/reject", "Writes down that an emergency access was not in order, with a comment that says why. When it still runs it is over, on every node within half a minute. "+
		"The person stays signed in with everything else they may do: the output says how to end that, too."
	if accept {
		word, path, about = "accept", "reviews/accept", "Writes down that an emergency access was in order."
	}
	c := &cobra.Command{
		Use:   word + " ID [--comment TEXT] [--reviewer NAME]",
		Short: map[bool]string{true: "Accepts", false: "Rejects"}[accept] + " an emergency access",
		Long: about + " The id is the one that `review`, the alarm and the audit log show; upper and lower case do not matter. A verdict is given once. " +
			"It stands in the audit log with the reviewer; the comment stands with the record for 90 days. Nobody reviews their own access.",
		Example: "  anteroom review " + word + " 7Q2M9XKD4T --comment 'asked for by the ward'",
		Args:    cobra.ExactArgs(1),
	}
	var f adminFlags
	f.add(c)
	comment := c.Flags().String("comment", "", "what is to be remembered about it, at most 500 characters; a rejection needs one")
	reviewer := c.Flags().String("reviewer", "", "who reviews (default: the user who runs this command)")
	asJSON := c.Flags().Bool("json", false, "print the reviewed access as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		who := cmp.Or(*reviewer, operator())
		if who == "" {
			return errors.New("reviewing: this machine does not say who runs the command; name the reviewer with --reviewer")
		}
		if !accept && strings.TrimSpace(*comment) == "" {
			return errors.New("a rejection needs --comment with the reason")
		}
		var r reviewEntry
		if err := f.call(adminPath+path, map[string]string{"id": args[0], "reviewer": who, "comment": *comment}, &r); err != nil {
			return fmt.Errorf("%sing %s: %w", word, printable(args[0]), err)
		}
		if *asJSON {
			return printJSON(c, r)
		}
		_, err := fmt.Fprint(c.OutOrStdout(), verdictText(r, time.Now()))
		return err
	}
	return c
}

// verdictText says what was done, and after a rejection what to do next.
func verdictText(r reviewEntry, now time.Time) string {
	who := cell(cmp.Or(r.User, r.Subject))
	text := fmt.Sprintf("%s: emergency access %s of %s to patient %s, %s.\n", map[bool]string{true: "Accepted", false: "Rejected"}[r.State == emergency.StateAccepted],
		cell(r.ID), who, cell(r.Patient), localTime(r.Begun))
	if r.State != emergency.StateRejected {
		return text
	}
	if !r.Ended.IsZero() && !r.Reviewed.IsZero() && r.Ended.Equal(r.Reviewed) {
		text += "It still ran and is over now, on every node within half a minute.\n"
	}
	end := "--source " + shellWord(r.Source) + " --subject " + shellWord(r.Subject)
	if r.User != "" {
		end = shellWord(r.User)
		if strings.HasPrefix(r.User, "-") {
			end = "-- " + end
		}
	}
	return text + "Next:\n" +
		"  - " + who + " is still signed in where a session runs. End all of them: anteroom sessions end-user " + end + "\n" +
		"  - Disable the account at " + cell(r.Source) + " if they must not sign in again.\n" +
		"  - The audit log has each request under emergency " + cell(r.ID) + ": tell the data protection officer what was read.\n"
}

// shellWord writes a name so that it can be copied into a shell: a username may be anything.
func shellWord(s string) string {
	s = printable(s)
	plain := strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@%+:/-") == ""
	if plain && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// operator is who runs this command: behind sudo, who called it.
func operator() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	if caller := os.Getenv("SUDO_USER"); u.Uid == "0" && caller != "" {
		return caller
	}
	return u.Username
}
