package redis

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/store"
)

// List returns the names of the files and folders in a folder, sorted, each with the folder's name in front; with recursive those
// in its subfolders too. "" is the top folder. A folder that is not there is fs.ErrNotExist; a file holds nothing.
func (f *Files) List(ctx context.Context, folder string, recursive bool) ([]string, error) {
	folder = cleanName(folder)
	doing := fmt.Sprintf("listing %q", folder)
	index, err := f.index(ctx, doing)
	if err != nil {
		return nil, err
	}
	found, exists := map[string]bool{}, folder == ""
	for _, info := range index {
		if info.Name == folder {
			exists = true
		}
		inside, ok := within(folder, info.Name)
		if !ok {
			continue
		}
		exists = true
		// Each slash ends the name of a folder.
		for i := range len(inside) {
			if inside[i] == '/' {
				found[join(folder, inside[:i])] = true
				if !recursive {
					break
				}
			}
		}
		if recursive || !strings.Contains(inside, "/") {
			found[info.Name] = true
		}
	}
	if !exists {
		return nil, fmt.Errorf("%s: %w", doing, fs.ErrNotExist)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// Stat describes a file or a folder, or says fs.ErrNotExist.
func (f *Files) Stat(ctx context.Context, name string) (FileInfo, error) {
	name = cleanName(name)
	id, doing := hashName(labelFileName, name), fmt.Sprintf("looking at %q", name)
	sealed, err := run(ctx, f.store, doing, f.indexName(), again, func(ctx context.Context, c link) ([]byte, error) {
		b, err := c.HGet(ctx, f.indexName(), id).Bytes()
		return b, absent(err)
	})
	if err == nil {
		info, err := f.entry(ctx, id, sealed)
		if err != nil {
			return FileInfo{}, fmt.Errorf("%s: %w", doing, err)
		}
		return info, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return FileInfo{}, err
	}
	index, err := f.index(ctx, doing)
	if err != nil {
		return FileInfo{}, err
	}
	info, exists := FileInfo{Name: name}, name == ""
	for _, other := range index {
		if _, ok := within(name, other.Name); ok {
			exists = true
			if other.Modified.After(info.Modified) {
				info.Modified = other.Modified
			}
		}
	}
	if !exists {
		return FileInfo{}, fmt.Errorf("%s: %w", doing, fs.ErrNotExist)
	}
	return info, nil
}

// Exists reports whether there is a file or a folder of that name.
func (f *Files) Exists(ctx context.Context, name string) (bool, error) {
	_, err := f.Stat(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// index reads all entries, by their name in Redis. One that does not open is an error for the whole: a listing without it would
// say that the file is not there.
func (f *Files) index(ctx context.Context, doing string) (map[string]FileInfo, error) {
	all, err := run(ctx, f.store, doing, f.indexName(), again, func(ctx context.Context, c link) (map[string]string, error) {
		return c.HGetAll(ctx, f.indexName()).Result()
	})
	if err != nil {
		return nil, err
	}
	index := make(map[string]FileInfo, len(all))
	for id, sealed := range all {
		if index[id], err = f.entry(ctx, id, []byte(sealed)); err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
	}
	return index, nil
}

func (f *Files) entry(ctx context.Context, id string, sealed []byte) (FileInfo, error) {
	plain, err := f.open(ctx, labelFileEntry, id, sealed)
	if err != nil {
		return FileInfo{}, err
	}
	info, err := decodeEntry(plain)
	if err != nil || hashName(labelFileName, info.Name) != id {
		return FileInfo{}, fmt.Errorf("%w: an entry of the index is of another version", store.ErrUnavailable)
	}
	return info, nil
}

// within returns what follows the folder and its slash in a name that lies in it.
func within(folder, name string) (string, bool) {
	if folder == "" {
		return name, true
	}
	return strings.CutPrefix(name, folder+"/")
}

func join(folder, name string) string {
	if folder == "" {
		return name
	}
	return folder + "/" + name
}
