package redis

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
)

// Files keeps files with names like paths, for what is not ours to shape: certificates and their private keys, accounts at
// certificate authorities. Folders are not made; they are where files lie. Names are cleaned like paths, so that no name reaches
// out of the top folder.
//
// A file is sealed as a whole, and sealed again for the index, which says name, size and time; names in Redis are hashes. Both
// are bound to that hash, so that nobody with write access to Redis gives one host the key of another. The index is one value:
// a listing reads all of it, which suits hundreds of certificates and not millions of files.
//
// Files also hands out locks, see Lock. Each Files knows only the locks that it took itself.
type Files struct {
	store *Store
	lease time.Duration

	mu   sync.Mutex // guards held
	held map[string]*lock
}

// FileInfo describes a file, or a folder: then Terminal is false and Modified the time of the youngest file in it.
type FileInfo struct {
	Name     string
	Modified time.Time
	Size     int64
	Terminal bool
}

// Files returns the store's files. They live as long as the store.
func (s *Store) Files() *Files {
	return &Files{store: s, lease: lockLease, held: map[string]*lock{}}
}

// Index and content change in one step. All names are of one slot, see nameFileIndex.
const (
	putFile = `redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[3])
return 1`
	deleteFiles = `for i, id in ipairs(ARGV) do
redis.call('HDEL', KEYS[1], id)
redis.call('DEL', KEYS[i + 1])
end
return 1`
)

// Store writes a file, whatever was there before.
func (f *Files) Store(ctx context.Context, name string, value []byte) error {
	name, id, err := fileName(name)
	if err == nil {
		err = store.CheckValue(value)
	}
	if err != nil {
		return fmt.Errorf("storing a file: %w", err)
	}
	doing := fmt.Sprintf("storing %q", name)
	info := FileInfo{Name: name, Modified: f.store.now(), Size: int64(len(value))}
	content, err := f.seal(ctx, labelFile, id, encodeFile(info, value))
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	entry, err := f.seal(ctx, labelFileEntry, id, encodeEntry(info))
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return f.change(ctx, doing, putFile, []string{f.indexName(), f.fileName(id)}, id, entry, content)
}

// Load returns a file's content, or fs.ErrNotExist.
func (f *Files) Load(ctx context.Context, name string) ([]byte, error) {
	name, id, err := fileName(name)
	if err != nil {
		return nil, fmt.Errorf("loading a file: %w", err)
	}
	doing := fmt.Sprintf("loading %q", name)
	sealed, err := run(ctx, f.store, doing, f.fileName(id), again, func(ctx context.Context, c link) ([]byte, error) {
		b, err := c.Get(ctx, f.fileName(id)).Bytes()
		return b, absent(err)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w", doing, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	plain, err := f.open(ctx, labelFile, id, sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	info, value, err := decodeFile(plain)
	if err != nil || info.Name != name {
		return nil, fmt.Errorf("%s: %w: what lies there is of another version", doing, store.ErrUnavailable)
	}
	return value, nil
}

// Delete removes the file of that name and all files in the folder of that name. Absent is no error. The top folder is not
// deleted as a whole: an empty name is a mistake, and the private keys of all hosts would be gone.
func (f *Files) Delete(ctx context.Context, name string) error {
	name, id, err := fileName(name)
	if err != nil {
		return fmt.Errorf("deleting files: %w", err)
	}
	doing := fmt.Sprintf("deleting %q", name)
	index, err := f.index(ctx, doing)
	if err != nil {
		return err
	}
	ids := []any{id}
	names := []string{f.indexName(), f.fileName(id)}
	for other, info := range index {
		if _, ok := within(name, info.Name); ok {
			ids = append(ids, other)
			names = append(names, f.fileName(other))
		}
	}
	return f.change(ctx, doing, deleteFiles, names, ids...)
}

// change runs a script on the files.
func (f *Files) change(ctx context.Context, doing, script string, names []string, args ...any) error {
	all := []any{"EVAL", script, len(names)}
	for _, n := range names {
		all = append(all, n)
	}
	all = append(all, args...)
	_, err := run(ctx, f.store, doing, f.indexName(), once, func(ctx context.Context, c link) (none, error) {
		return none{}, f.store.durable(ctx, c, goredis.NewIntCmd(ctx, all...))
	})
	return err
}

func (f *Files) indexName() string         { return f.store.prefix + nameFileIndex }
func (f *Files) fileName(id string) string { return f.store.prefix + nameFile + id }

// The label binds what is sealed to the name it lies under, the prefix included.
func (f *Files) seal(ctx context.Context, label, id string, plain []byte) ([]byte, error) {
	sealed, err := f.store.sealer.Seal(ctx, label+" "+f.fileName(id), plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return sealed, nil
}

// open never says fs.ErrNotExist: whoever asks would make a new file and write over what only needs its master key.
func (f *Files) open(ctx context.Context, label, id string, sealed []byte) ([]byte, error) {
	plain, err := f.store.unseal(ctx, label+" "+f.fileName(id), sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: a file in Redis does not open; all nodes need one master key: %w", store.ErrUnavailable, err)
	}
	return plain, nil
}

// fileName cleans a name and returns its name in Redis too.
func fileName(name string) (clean, id string, err error) {
	clean = cleanName(name)
	if err := store.CheckKey(clean); err != nil {
		return "", "", err
	}
	return clean, hashName(labelFileName, clean), nil
}

// cleanName writes a path in one way: without slashes at the ends, doubled ones and dots. "" is the top folder.
func cleanName(name string) string { return path.Clean("/" + name)[1:] }

func hashName(label, name string) string {
	sum := sha256.Sum256([]byte(label + "\x00" + name))
	return hex.EncodeToString(sum[:])
}

// encodeEntry writes time ‖ size ‖ name.
func encodeEntry(info FileInfo) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(info.Modified.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, uint64(info.Size))
	return append(b, info.Name...)
}

func decodeEntry(b []byte) (FileInfo, error) {
	if len(b) < 16 {
		return FileInfo{}, errors.New("entry is too short")
	}
	return FileInfo{
		Modified: time.UnixMilli(int64(binary.BigEndian.Uint64(b))), Size: int64(binary.BigEndian.Uint64(b[8:])),
		Name: string(b[16:]), Terminal: true,
	}, nil
}

// encodeFile writes length of the entry (2 bytes) ‖ entry ‖ content.
func encodeFile(info FileInfo, value []byte) []byte {
	entry := encodeEntry(info)
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(entry)+len(value)), uint16(len(entry)))
	return append(append(b, entry...), value...)
}

func decodeFile(b []byte) (FileInfo, []byte, error) {
	if len(b) < 2 {
		return FileInfo{}, nil, errors.New("file is too short")
	}
	n, b := int(binary.BigEndian.Uint16(b)), b[2:]
	if len(b) < n {
		return FileInfo{}, nil, errors.New("file is too short")
	}
	info, err := decodeEntry(b[:n])
	if err == nil && info.Size != int64(len(b)-n) {
		err = errors.New("file has another length than it says")
	}
	return info, b[n:], err
}
