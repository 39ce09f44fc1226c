"""What every store and key-value space must pass, for ours and for those of others.

An implementation is held to its contract in a few lines (needs pytest and hypothesis):

    class TestMine(StoreSuite):
        def open_store(self, folder: Path) -> Store:
            return MyStore(folder)
"""
