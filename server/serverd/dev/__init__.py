"""What only development needs: certificates of one's own (`certificates`), and what has changed on disk (`watcher`)."""
