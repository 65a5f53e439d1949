package caddymodule

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/anteroom-proxy/anteroom/hardening"
	"github.com/spf13/cobra"
)

// ringFlags are what every order to a ring of the running program takes.
type ringFlags struct {
	adminFlags
	ring string
}

func (f *ringFlags) add(c *cobra.Command) {
	f.adminFlags.add(c)
	c.Flags().StringVar(&f.ring, "ring", "", "name of the ring (default: the only one)")
}

// order sends one order and decodes its answer.
func (f ringFlags) order(verb string, body map[string]any, into any) error {
	if f.ring != "" {
		body["ring"] = f.ring
	}
	return f.call(adminPath+"rings/"+verb, body, into)
}

// ringCommands are the commands of `keys ring` that ask the running program.
func ringCommands() []*cobra.Command {
	return []*cobra.Command{
		ringStatusCommand(), ringRotateCommand(),
		ringVerb("retire", true, "Takes a pepper out of use, once nothing needs it", "Refuses a pepper from now on. A census of all records that began after the pepper ceased to be the primary, and is younger than a day, must have found none that needs it. The pepper is kept: `reopen` takes it back.", "retired"),
		ringVerb("close", false, "Lets a pepper open only beneath a newer one", "After an upgrade of all records: whoever has a leaked pepper can still make whole records of his own, but no record stands under it alone any more, so that such a one is refused. Needs a census, as `retire` does.", "closed"),
		ringVerb("reopen", false, "Takes a retirement or a closing back", "The pepper verifies again, as before it was retired or closed.", "open again"),
		ringVerb("destroy", true, "Overwrites the key of a retired pepper for good", "The pepper must have been retired for a week. Records that need it are lost; its name is never used again. Copies of the store from before still hold it, wrapped.", "destroyed"),
		ringRewrapCommand(), ringExportCommand(), ringImportCommand(), ringOriginalCommand(), ringCensusCommand(), ringUpgradeCommand(),
	}
}

func ringStatusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "status [--json]",
		Short:   "Shows the rings of the running program: peppers, recipients, what is due",
		Example: "  anteroom keys ring status --config /etc/anteroom/Caddyfile",
		Args:    cobra.NoArgs,
	}
	var f ringFlags
	f.add(c)
	asJSON := c.Flags().Bool("json", false, "print JSON for programs: {\"rings\":[…]}")
	c.RunE = func(c *cobra.Command, _ []string) error {
		c.SilenceUsage = true
		var list ringList
		if err := f.call(adminPath+"rings", nil, &list); err != nil {
			return fmt.Errorf("asking for the rings: %w", err)
		}
		if f.ring != "" {
			list.Rings = slices.DeleteFunc(list.Rings, func(s hardening.RingStatus) bool { return s.Name != f.ring })
			if len(list.Rings) == 0 {
				return fmt.Errorf("asking for the rings: there is none of the name %s", printable(f.ring))
			}
		}
		if *asJSON {
			return printJSON(c, list)
		}
		for _, s := range list.Rings {
			if err := printRing(c.OutOrStdout(), s); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

// printRing prints one ring for a person.
func printRing(out io.Writer, s hardening.RingStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0) // Flush tells of errors
	_, _ = fmt.Fprintf(w, "RING\t%s\t%s\tid %s\tepoch %d\n", cell(s.Name), s.State, cell(s.Ring), s.Epoch)
	for _, v := range s.Versions {
		note := ""
		if v.Compromised {
			note = "compromised"
		}
		if !v.Activates.IsZero() {
			note += " primary from " + localTime(v.Activates)
		}
		since := v.Changed
		if since.IsZero() {
			since = v.Created
		}
		_, _ = fmt.Fprintf(w, "  pepper\t%s\t%s\tsince %s\t%s\n", cell(v.ID), v.State, localTime(since), cell(note))
	}
	for _, st := range s.Stanzas {
		note := ""
		switch {
		case slices.Contains(s.LiveTLS, st.KID):
			note = "served now"
		case st.Type == "tls":
			note = "not served here"
		}
		_, _ = fmt.Fprintf(w, "  opens by\t%s\t%s\tuntil %s\t%s\n", cell(st.Type), cell(st.KID[:min(16, len(st.KID))]), localTime(st.NotAfter), cell(note))
	}
	for _, kid := range s.Banned {
		_, _ = fmt.Fprintf(w, "  never for\tkey\t%s\t\tcompromised\n", cell(kid[:min(16, len(kid))]))
	}
	if c := s.LastCensus; c != nil {
		_, _ = fmt.Fprintf(w, "  census\t%d records\t%s\tfrom %s\t%d of another ring\n", c.Records, countsOf(c.Versions), localTime(c.Began), c.Foreign)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if s.UpgradeDue {
		if _, err := fmt.Fprintln(out, "  An upgrade is due: send all records through `anteroom keys ring upgrade`, or have the application do it."); err != nil {
			return err
		}
	}
	if s.Detail != "" {
		_, err := fmt.Fprintln(out, "  "+printable(s.Detail))
		return err
	}
	return nil
}

// countsOf prints how many records need which pepper.
func countsOf(counts map[string]int) string {
	var list []string
	for id, n := range counts {
		list = append(list, fmt.Sprintf("%s %d", id, n))
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return cell(strings.Join(list, ", "))
}

func ringRotateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "rotate [--in 5m]",
		Short: "Makes a new pepper for new records",
		Long: "Makes a new pepper. It waits until every node has it, five minutes by default, and is the one for new records from then on. Records of the old one verify as before, " +
			"and are made anew as people sign in. When a pepper or a TLS key may have leaked, use `keys compromised` instead.",
		Example: "  anteroom keys ring rotate\n  anteroom keys ring rotate --in 0s --ring passwords",
		Args:    cobra.NoArgs,
	}
	var f ringFlags
	f.add(c)
	in := c.Flags().String("in", "5m", "when it becomes the one for new records; 0s: at once")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return ringOrder(c, f, "rotate", map[string]any{"in": *in}, "rotating the ring", "The ring has a new pepper.")
	}
	return c
}

func ringRewrapCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "rewrap",
		Short: "Wraps the ring anew for the keys of today, and for no other",
		Long:  "Makes a new file key and wraps it for the TLS keys that are served now, the recovery key and the KMS. An old TLS key opens nothing that is written from then on. No record changes.",
		Args:  cobra.NoArgs,
	}
	var f ringFlags
	f.add(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return ringOrder(c, f, "rewrap", map[string]any{}, "rewrapping the ring", "The ring is wrapped anew.")
	}
	return c
}

// ringVerb is a command about one pepper.
func ringVerb(verb string, force bool, short, long, done string) *cobra.Command {
	c := &cobra.Command{Use: verb + " PEPPER", Short: short, Long: long, Example: "  anteroom keys ring " + verb + " p1", Args: cobra.ExactArgs(1)}
	var f ringFlags
	f.add(c)
	forced := false
	if force {
		c.Use += " [--force]"
		c.Flags().BoolVar(&forced, "force", false, "without waiting for what makes it safe")
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		body := map[string]any{"id": args[0]}
		if forced {
			body["force"] = true
		}
		return ringOrder(c, f, verb, body, verb+" "+printable(args[0]), "The pepper "+printable(args[0])+" is "+done+".")
	}
	return c
}

// ringOrder sends an order whose answer is the ring's status, and prints it.
func ringOrder(c *cobra.Command, f ringFlags, verb string, body map[string]any, doing, done string) error {
	c.SilenceUsage = true
	var status hardening.RingStatus
	if err := f.order(verb, body, &status); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if _, err := fmt.Fprintln(c.OutOrStdout(), done); err != nil {
		return err
	}
	return printRing(c.OutOrStdout(), status)
}

func ringCensusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "census FILE|-",
		Short: "Counts which peppers a file of records still needs",
		Long: "Reads records, one a line, from FILE or standard input, and counts the peppers that they name. The ring keeps the count: it decides which pepper may be retired. " +
			"Give it all records of all applications that use the ring, exported after the last rotation.",
		Example: "  psql -Atc 'select record from users' hospital | anteroom keys ring census -",
		Args:    cobra.ExactArgs(1),
	}
	var f ringFlags
	f.add(c)
	asJSON := c.Flags().Bool("json", false, "print JSON for programs")
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		var sum hardening.Census
		began := false
		err := eachBatch(c, args[0], func(records []string) error {
			body := map[string]any{"records": records}
			if began {
				body["census"] = sum.ID
			}
			began = true
			return f.order("census", body, &sum)
		})
		if err == nil && !began {
			err = errors.New("there is no record in it")
		}
		if err == nil {
			err = f.order("census", map[string]any{"records": []string{}, "census": sum.ID, "done": true}, &sum)
		}
		if err != nil {
			return fmt.Errorf("counting records: %w; nothing is decided by what was counted so far", err)
		}
		if *asJSON {
			return printJSON(c, sum)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%d records: %s; as outermost layer: %s; %d are not of this ring\n", sum.Records, countsOf(sum.Versions), countsOf(sum.Outermost), sum.Foreign)
		return err
	}
	return c
}

func ringUpgradeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "upgrade FILE|-",
		Short: "Lays the newest pepper over a file of records",
		Long: "Reads records, one a line, from FILE or standard input, and prints the new ones in the same order: no password is needed. A record that is new already is printed as it is, so that " +
			"it can be run again. One that cannot be read is printed as it is, reported with its line, and makes the command fail at the end.",
		Example: "  anteroom keys ring upgrade records.txt > upgraded.txt",
		Args:    cobra.ExactArgs(1),
	}
	var f ringFlags
	f.add(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		out := bufio.NewWriter(c.OutOrStdout())
		line, changed, failed := 0, 0, 0
		err := eachBatch(c, args[0], func(records []string) error {
			var list upgradedList
			if err := f.order("upgrade", map[string]any{"records": records}, &list); err != nil {
				return err
			}
			if len(list.Records) != len(records) {
				return errors.New("the program answered another number of records")
			}
			for i, u := range list.Records {
				line++
				text := u.Record
				if u.Error != "" {
					text = records[i]
					failed++
					_, _ = fmt.Fprintf(c.ErrOrStderr(), "line %d: %s\n", line, printable(u.Error))
				} else if u.Changed {
					changed++
				}
				if _, err := out.WriteString(text + "\n"); err != nil {
					return err
				}
			}
			return nil
		})
		if err = errors.Join(err, out.Flush()); err != nil {
			return fmt.Errorf("upgrading records: after line %d: %w", line, err)
		}
		_, _ = fmt.Fprintf(c.ErrOrStderr(), "%d records, %d of them upgraded\n", line, changed)
		if failed > 0 {
			return fmt.Errorf("upgrading records: %d of %d could not be", failed, line)
		}
		return nil
	}
	return c
}

const (
	// maxRingLine bounds a line: a set of 4096 entries fits.
	maxRingLine = 1 << 20
	// batchBytes bounds what is sent at once, below what the admin API reads.
	batchBytes = 4 << 20
)

// eachBatch reads lines and hands them on, at most 4096 at once. An empty line is no record.
func eachBatch(c *cobra.Command, path string, do func([]string) error) error {
	in := c.InOrStdin()
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	ctx := c.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxRingLine)
	var batch []string
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		err := do(batch)
		batch, size = nil, 0
		return err
	}
	for lines.Scan() {
		text := strings.TrimSuffix(lines.Text(), "\r")
		if text == "" {
			continue
		}
		if len(batch) == maxRingBatch || size+len(text) > batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		batch, size = append(batch, text), size+len(text)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return flush()
}
