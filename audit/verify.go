package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Extent is what Verify has read.
type Extent struct {
	// Files is the number of files, Lines that of their lines.
	Files, Lines int
	// First and Last are the sequence numbers of the first and the last line. A First
	// above 1 means that older files were removed; nothing is said about those.
	First, Last uint64
	// Head is the hash of the last line. Whoever has a copy of it, kept on another
	// machine, can tell later whether the log up to Last is still the same.
	Head string
	// Torn is the number of lines that a crash or a full disk cut short.
	Torn int
}

// Verify reads the whole log in dir and checks that the sequence has no hole and that
// every record names the hash of the line before. A line that is not a record is
// accepted only where the log itself says so in the next record. It may run beside a
// process that writes: a last line that is not finished yet is left out. The error
// names the file and the line and matches ErrChain.
func Verify(dir string) (Extent, error) {
	names, err := listFiles(dir)
	if err != nil {
		return Extent{}, fmt.Errorf("verifying the audit log: %w", err)
	}
	v := verifier{}
	for i, n := range names {
		if err := v.file(dir, n, i == len(names)-1); err != nil {
			return v.Extent, fmt.Errorf("verifying the audit log: %w", err)
		}
	}
	v.Files = len(names)
	return v.Extent, nil
}

// verifier walks over the lines of all files.
type verifier struct {
	Extent
	open  uint64 // lines before this one that are not records and not yet explained
	known bool   // Last is known: a record was seen
}

func (v *verifier) file(dir string, n name, newest bool) error {
	f, err := os.Open(filepath.Join(dir, n.String()))
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	for number := 1; ; number++ {
		line, err := r.ReadBytes('\n')
		switch {
		case err == nil:
			if reason := v.line(line[:len(line)-1]); reason != "" {
				return fmt.Errorf("%w: %s line %d: %s", ErrChain, n, number, reason)
			}
		case !errors.Is(err, io.EOF):
			return err
		case len(line) > 0 && !newest:
			return fmt.Errorf("%w: %s line %d: it has no end, and a later file follows", ErrChain, n, number)
		default:
			return nil
		}
	}
}

// line checks one line and returns what is wrong with it.
func (v *verifier) line(line []byte) string {
	r, ok := parseRecord(line)
	want := v.Head
	v.Head = string(appendHash(nil, line))
	v.Lines++
	switch {
	case !ok:
		v.Torn++
		v.open++
		v.Last++
		return ""
	case v.known && r.Seq != v.Last+1:
		return fmt.Sprintf("its sequence number is %d where %d belongs", r.Seq, v.Last+1)
	case v.Lines > 1 && r.Prev != want, r.Seq == 1 && r.Prev != "":
		return fmt.Sprintf("record %d does not follow from the line before: one of the two was changed", r.Seq)
	case v.open > 0 && r.Kind != kindLog:
		return fmt.Sprintf("the line before record %d is not a record, and the log does not say why", r.Seq)
	}
	if !v.known {
		v.First = r.Seq - min(v.open, r.Seq-1)
	}
	v.Last, v.open, v.known = r.Seq, 0, true
	return ""
}
