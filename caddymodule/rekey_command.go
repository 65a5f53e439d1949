package caddymodule

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/anteroom-proxy/anteroom/rekey"
	"github.com/spf13/cobra"
)

// keysStatusCommand is `keys status`.
func keysStatusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status [--json]",
		Short: "Shows what is sealed by what, how old each key is, and how many records it has sealed",
		Long: "Prints the master key, the data keys under it with the number of values in the store that each has sealed, those of a certificate storage in another place (storage/ and 16 digits), the data keys of applications (what those keep only they can count), " +
			"the signing keys, the keys with which Anteroom proves itself to identity providers, and the password rings with their peppers. It reads the whole store once; nothing is changed, and no secret is shown.",
		Example: "  anteroom keys status --config /etc/anteroom/Caddyfile",
		Args:    cobra.NoArgs,
	}
	var f adminFlags
	f.add(c)
	asJSON := c.Flags().Bool("json", false, "print JSON for programs")
	c.RunE = func(c *cobra.Command, _ []string) error {
		c.SilenceUsage = true
		var s keyStatus
		if err := f.call(adminPath+"keys/status", nil, &s); err != nil {
			return fmt.Errorf("asking for the keys: %w", err)
		}
		if *asJSON {
			return printJSON(c, s)
		}
		return printStatus(c, s)
	}
	return c
}

func printStatus(c *cobra.Command, s keyStatus) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	row := func(fields ...string) { _, _ = fmt.Fprintln(w, strings.Join(fields, "\t")) } // Flush tells of errors
	more := ""
	if !s.Complete {
		more = "+"
	}
	row("DATA KEY", "OF", "STATE", "RECORDS", "CREATED", "WRAPPED BY", "WRAPPED")
	listed := map[string]bool{}
	for _, k := range s.Own {
		listed[k.ID] = true
		if strings.HasPrefix(k.ID, "v1:") && s.Records[k.ID] == 0 && (k.State == rekey.Open || k.State == rekey.Destroyed) {
			continue // a master key that has sealed nothing by itself
		}
		row(cell(k.ID), "anteroom", cell(k.State), fmt.Sprint(s.Records[k.ID], more), localTime(k.Created), cell(k.Master), localTime(k.Wrapped))
	}
	for _, id := range slices.Sorted(maps.Keys(s.Records)) {
		if !listed[id] {
			row(cell(id), "anteroom", "former", fmt.Sprint(s.Records[id], more), "-", "-", "-")
		}
	}
	if s.Storage != nil && s.Storage.Status != nil {
		for _, k := range s.Storage.Own {
			if n := s.Storage.Records[k.ID]; n > 0 || !strings.HasPrefix(k.ID, "v1:") {
				row(ringStorage+"/"+cell(k.ID), "certificates", cell(k.State), fmt.Sprint(n), localTime(k.Created), cell(k.Master), localTime(k.Wrapped))
			}
		}
	} else if s.Storage != nil {
		row(ringStorage+"/?", "certificates", "not known", "-", "-", "-", "-")
	}
	for _, k := range s.Apps {
		row(cell(k.ID), "applications", cell(k.State), "-", localTime(k.Created), cell(k.Master), localTime(k.Wrapped))
	}
	row()
	row("SIGNING KEY", "USE", "STATE", "CREATED")
	for _, k := range s.Signing {
		row(cell(k.KID), cell(k.Use), cell(k.State), localTime(k.Created))
	}
	if len(s.Clients) > 0 {
		row()
		row("CLIENT KEY", "USE", "STATE", "CREATED", "")
	}
	for _, e := range s.Clients {
		if len(e.Keys) == 0 {
			row(clientPrefix+cell(e.Name), "-", cmp.Or(printable(e.Problem), "made at the first sign-in"), "-", "")
		}
		for _, k := range e.Keys {
			row(clientPrefix+cell(e.Name), cell(k.Use), cell(k.State), localTime(k.Created), cell(k.KID))
		}
	}
	if len(s.Rings) > 0 {
		row()
		row("RING", "PEPPER", "STATE", "CREATED", "")
	}
	for _, r := range s.Rings {
		if r.UpgradeDue {
			row(cell(r.Name), "-", "upgrade due", "-", "applications must send their records through upgrade")
		}
		if r.State != "open" {
			row(cell(r.Name), "-", cell(r.State), "-", cell(r.Detail))
		}
		for _, v := range r.Versions {
			remark := ""
			if v.Compromised {
				remark = "compromised"
			}
			row(cell(r.Name), cell(v.ID), cell(string(v.State)), localTime(v.Created), remark)
		}
	}
	if s.Storage != nil {
		row()
		row("The keys storage/… are those of " + printable(s.Storage.Name) + ". " + printable(s.Storage.Problem))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !s.Complete {
		_, err := fmt.Fprintf(c.OutOrStdout(), "\nThe store is large: %d values were counted in the time there was; the numbers are at least these.\n", s.Counted)
		return err
	}
	return nil
}

// rotations are what `keys rotate` takes beside nothing at all.
var rotations = map[string]rekey.Verb{"data": rekey.RotateData, ringStorage: rekey.RotateData, "master": rekey.RotateMaster, "ring": rekey.RotateRing}

// keysCompromisedCommand is `keys compromised`.
func keysCompromisedCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "compromised ID [--dry-run] [--yes] [--force]",
		Short: "Ends the use of a key that somebody else may have, and seals everything anew",
		Long: "For the moment in which a key may have been stolen. From then on the key seals nothing on any node, a new one is there, everything that it had sealed is sealed anew, sessions that it protected are over, and when a second reading of the whole store finds nothing under it, it is destroyed. " +
			"ID is what `keys status` shows: a data key (16 digits; storage/ and 16 digits for one of the certificate storage), a pepper (ring/p3, or NAME/p3), a TLS key that opens a ring (16 or more digits of its name), a signing key, client/NAME (the key with which Anteroom proves itself to the identity provider NAME), or `master`. " +
			"It goes on when this command is ended or the program is killed; run the command again to watch. First look what would happen with --dry-run. `keys report` prints the report at the end.",
		Example: "  anteroom keys compromised 5f0c9a4be1d27380 --dry-run\n  anteroom keys compromised 5f0c9a4be1d27380",
		Args:    cobra.ExactArgs(1),
	}
	var f adminFlags
	f.add(c)
	dry := c.Flags().Bool("dry-run", false, "only print what would be done")
	yes := c.Flags().Bool("yes", false, "do not ask")
	force := c.Flags().Bool("force", false, "destroy the key although some values under it do not open; also when an operation has ended and set such values aside")
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		want := map[string]any{"id": args[0], "force": *force, "dry_run": true}
		err := runKeys(c, f, "keys/compromised", want, *dry, *yes)
		if err != nil {
			return fmt.Errorf("ending key %s: %w", printable(args[0]), err)
		}
		return nil
	}
	return c
}

// keysMigrateCommand is `keys migrate`.
func keysMigrateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "migrate [--remove]",
		Short: "Brings all data keys under the master key that the config names now",
		Long: "After the line `master` was changed (a key file for AWS KMS, one KMS key for another) and Anteroom restarted (a reload cannot change it), the former master still wraps the data keys that there are. " +
			"This wraps them under the present one, seals anew what a former version had sealed with the master key itself, and makes sure that nothing is left. No record of a data key changes. A certificate storage with data keys of its own is moved afterwards. " +
			"--remove overwrites and removes the former key file at the end.",
		Example: "  anteroom keys migrate",
		Args:    cobra.NoArgs,
	}
	var f adminFlags
	f.add(c)
	remove := c.Flags().Bool("remove", false, "overwrite and remove the former key file at the end")
	dry := c.Flags().Bool("dry-run", false, "only print what would be done")
	c.RunE = func(c *cobra.Command, _ []string) error {
		c.SilenceUsage = true
		if err := runKeys(c, f, "keys/begin", map[string]any{"verb": rekey.Migrate, "remove": *remove}, *dry, true); err != nil {
			return fmt.Errorf("migrating keys: %w", err)
		}
		return nil
	}
	return c
}

// runKeys shows what would be done, asks, begins, and watches to the end.
func runKeys(c *cobra.Command, f adminFlags, path string, want map[string]any, dry, yes bool) error {
	var answer keyAnswer
	out := c.OutOrStdout()
	if dry || !yes {
		want["dry_run"] = true
		if err := f.call(adminPath+path, want, &answer); err != nil {
			return err
		}
		if err := printPlan(out, answer.Plan); err != nil {
			return err
		}
		if dry {
			return moreRings(c, f, path, want, answer.More, dry)
		}
		if err := confirm(c, out); err != nil {
			return err
		}
	}
	want["dry_run"] = false
	if err := f.call(adminPath+path, want, &answer); err != nil {
		return err
	}
	if answer.Operation == nil {
		return errors.New("the program does not say what it does: ask `anteroom keys status`")
	}
	if err := watchKeys(c, f, answer.Operation); err != nil {
		return err
	}
	return moreRings(c, f, path, want, answer.More, dry)
}

// moreRings does the same for the other rings of data keys.
func moreRings(c *cobra.Command, f adminFlags, path string, want map[string]any, more []string, dry bool) error {
	for _, ring := range more {
		if _, err := fmt.Fprintf(c.OutOrStdout(), "\nThe same for the certificate storage:\n"); err != nil {
			return err
		}
		want["ring"] = ring
		if err := runKeys(c, f, path, want, dry, true); err != nil {
			return fmt.Errorf("the store is done, the certificate storage is not: %w", err)
		}
	}
	return nil
}

func printPlan(w io.Writer, p *rekey.Plan) error {
	if p == nil {
		return errors.New("the program does not say what it would do")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s would do this:\n", strings.TrimSpace(printable(string(p.Verb)+" "+p.Target)))
	for i, s := range p.Steps {
		fmt.Fprintf(&b, "%4d. %s\n", i+1, printable(s))
	}
	if p.Total > 0 {
		fmt.Fprintf(&b, "Values in the store: %d; to be sealed anew: %d\n", p.Total, p.Reseal)
		for _, name := range slices.Sorted(maps.Keys(p.Purpose)) {
			fmt.Fprintf(&b, "%10d  %s\n", p.Purpose[name], printable(name))
		}
	}
	for _, kid := range p.Kills {
		fmt.Fprintf(&b, "Signing key that dies: %s\n", printable(kid))
	}
	for _, key := range p.Unknown {
		fmt.Fprintf(&b, "Nobody knows what this is, so that the key would not be destroyed: %s\n", printable(key))
	}
	for _, note := range p.Notes {
		fmt.Fprintf(&b, "- %s\n", printable(note))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func confirm(c *cobra.Command, w io.Writer) error {
	if _, err := fmt.Fprint(w, "Type yes to do it: "); err != nil {
		return err
	}
	line, err := bufio.NewReader(c.InOrStdin()).ReadString('\n')
	if err != nil && line == "" || strings.TrimSpace(line) != "yes" {
		return errors.New("nothing was done; for scripts there is --yes")
	}
	return nil
}

// watchEvery is how often the progress is asked for.
const watchEvery = 500 * time.Millisecond

// watchKeys shows the progress of an operation until it has ended. When the program is away it waits for it: a restart goes on
// with the operation. Interrupting the command leaves the operation running.
func watchKeys(c *cobra.Command, f adminFlags, begun *rekey.Progress) error {
	id := begun.ID
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	defer signal.Stop(interrupted)
	out, bar := c.OutOrStdout(), newBar(c.OutOrStdout())
	var lost time.Time
	for {
		var answer keyAnswer
		err := f.call(adminPath+"keys/operation?id="+url.QueryEscape(id), nil, &answer)
		op := answer.Operation
		switch {
		case err != nil && lost.IsZero():
			lost = time.Now()
		case err != nil && time.Since(lost) > time.Minute:
			bar.end()
			return fmt.Errorf("the operation %s goes on when the program runs again: %w", id, err)
		case err != nil:
		case !goesOn(begun, op):
			bar.end()
			return fmt.Errorf("another operation has taken the place of %s; its report, if it came to its end: anteroom keys report %s", id, id)
		default:
			lost = time.Time{}
			bar.show(op)
			switch op.State {
			case rekey.StateDone:
				bar.end()
				return printDone(out, op)
			case rekey.StateStopped:
				bar.end()
				return errors.New(printable(op.Problem))
			}
		}
		select {
		case <-interrupted:
			bar.end()
			_, err := fmt.Fprintf(out, "The operation %s goes on. Watch it with: anteroom keys report --watch\n", id)
			return err
		case <-time.After(watchEvery):
		}
	}
}

// goesOn says whether what is under way is what was begun: its name alone could stand on something else in the journal.
func goesOn(begun, op *rekey.Progress) bool {
	return op != nil && op.ID == begun.ID && op.Verb == begun.Verb && op.Target == begun.Target
}

func printDone(w io.Writer, op *rekey.Progress) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Done in %s. Report %s: anteroom keys report %s [--html FILE]\n", op.Ended.Sub(op.Began).Round(time.Millisecond), op.ID, op.ID)
	for _, note := range op.Notes {
		fmt.Fprintf(&b, "- %s\n", printable(note))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// bar shows one line for each step: on a terminal it is drawn over, elsewhere it is printed when the step ends or every few
// seconds.
type bar struct {
	w        io.Writer
	terminal bool
	step     int
	shown    time.Time
	open     bool
}

func newBar(w io.Writer) *bar {
	f, ok := w.(*os.File)
	if !ok {
		return &bar{w: w}
	}
	info, err := f.Stat()
	return &bar{w: w, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

const barWidth = 24

func (b *bar) show(op *rekey.Progress) {
	line := fmt.Sprintf("%2d/%d %s", op.Step, op.Of, cmp.Or(op.Title, op.Phase))
	if op.Seen > 0 {
		line += fmt.Sprintf(" %d", op.Seen)
		if op.Total > 0 {
			done := min(1, float64(op.Seen)/float64(op.Total))
			n := int(done * barWidth)
			line = fmt.Sprintf("%2d/%d [%s%s] %3.0f %% %s %d of %d", op.Step, op.Of, strings.Repeat("#", n), strings.Repeat(".", barWidth-n), 100*done, op.Title, min(op.Seen, op.Total), op.Total)
		}
		if op.Rate > 0 {
			line += fmt.Sprintf(", %.0f/s", op.Rate)
		}
	}
	if op.Problem != "" {
		line += ": " + op.Problem
	}
	line = printable(line)
	switch {
	case b.terminal:
		_, _ = fmt.Fprint(b.w, "\r\x1b[K"+line)
		b.open = true
	case op.Step != b.step || time.Since(b.shown) > 3*time.Second:
		_, _ = fmt.Fprintln(b.w, line)
		b.shown = time.Now()
	}
	b.step = op.Step
}

func (b *bar) end() {
	if b.open {
		_, _ = fmt.Fprintln(b.w)
		b.open = false
	}
}
