"""Data only: site and mapping files, kept beside the packages so that an installed command finds them."""
